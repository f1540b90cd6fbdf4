// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"iter"
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
}
