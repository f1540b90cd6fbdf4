// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"errors"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Evidence is what there is of the chains of any number of nodes, wherever it was
// read: in the vault's tables, in a spool's directory or in an export.
type Evidence struct {
	At    time.Time // when it was read, by its source's clock
	Heads []Head    // all that are known
	// Rows of a node come by rising number, nodes in any order or mixed.
	Rows iter.Seq2[Row, error]
	// Changes come by rising id, and are read after the rows. Nil: they are not known.
	Changes iter.Seq2[Change, error]
}

// MaxHeads is how many heads are taken into memory: of a node one every hour is
// kept, so it has enough for a hundred years of a node.
const MaxHeads = 1_000_000

// Change is the server's own note of a change, a row of vault.changes. It is not
// chained: it says that there must be a record.
type Change struct {
	ID          int64
	At          time.Time // when its transaction began
	Action      string
	Subject     string // as Record.Secret
	SecretID    string // a uuid; empty: none
	Version     int32
	SessionRole string
	CurrentRole string
}

// Demands are what evidence is held against.
type Demands struct {
	// Trust is which keys count. A head of another is a finding, and so is a chain
	// without a trusted head, and a node of which there is nothing at all.
	Trust Trust
	// MinAge is at which age records may have been deleted, behind a head. Zero: at any.
	MinAge time.Duration
	// Grace is how old a change must be before it is said to have no record: that may be
	// on its way from its node to the vault.
	Grace time.Duration
	// Part: it is a part of what there is, as a spool's directory is, where segments are
	// deleted that were shipped. Chains may begin anywhere, and nodes may be left out.
	Part bool
	// Ahead: it was read in a spool, which has records behind its last head, and no
	// changes. The verifier's word, like Part: an export says of itself what it likes.
	Ahead bool
	// Restored is which records were lost as the vault was restored, by the operator's
	// word. It counts only where the node says so too.
	Restored []Range
	// Writes is which nodes ship writes alone, by the operator's word, where the start
	// that says so was deleted for its age, or is not proven.
	Writes []NodeID
}

// restored reports whether all of these records are known to be lost.
func (d *Demands) restored(node NodeID, from, to uint64) bool {
	return slices.ContainsFunc(d.Restored, func(r Range) bool { return r.Node == node && r.From <= from && to <= r.To })
}

// Range is records of a node, both ends among them.
type Range struct {
	Node     NodeID
	From, To uint64
}

// ParseRange reads NODE:FROM-TO.
func ParseRange(s string) (r Range, err error) {
	node, numbers, _ := strings.Cut(s, ":")
	from, to, _ := strings.Cut(numbers, "-")
	if r.Node, err = ParseNodeID(node); err != nil {
		return Range{}, err
	}
	r.From, err = strconv.ParseUint(from, 10, 63)
	if err == nil {
		r.To, err = strconv.ParseUint(to, 10, 63)
	}
	if err != nil || r.From < 1 || r.To < r.From {
		return Range{}, errors.New("the numbers of records are FROM-TO, the lower one first")
	}
	return r, nil
}
