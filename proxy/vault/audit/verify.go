// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// Kind is what was found.
type Kind string

// What a chain may have suffered, and what is to be known of one that has not.
const (
	Removed   Kind = "removed"   // records are missing
	CutOff    Kind = "cut off"   // a head is known of a record that is not there any more
	Inserted  Kind = "inserted"  // a record that is not of the chain, or is there twice
	Changed   Kind = "changed"   // a record is not what its hash says
	Reordered Kind = "reordered" // a record is not in its place
	Rewritten Kind = "rewritten" // from there on it is another chain
	Forked    Kind = "forked"    // two chains of one node
	Untrusted Kind = "untrusted" // nothing that is trusted speaks for it

	Lost  Kind = "may be missing" // note: the machine went down in batch mode
	Clock Kind = "clock"          // note: it was set
)

// Finding is one thing that is wrong, or to be known.
type Finding struct {
	Kind   Kind
	Node   NodeID
	Seq    uint64 // the record at which it shows
	Detail string
}

func (f Finding) String() string {
	return fmt.Sprintf("node %v: %s: %s", f.Node, f.Kind, f.Detail)
}

// NodeReport is how much of a node's chain there is.
type NodeReport struct {
	Node        NodeID
	First, Last uint64
	Proven      uint64 // the last record that is as a trusted head says
}

// Report is what Verify found.
type Report struct {
	Nodes    []NodeReport // by node id
	Findings []Finding    // what is wrong; empty: nothing
	Notes    []Finding    // what is to be known
	More     int          // findings and notes that were left out
}

// OK reports whether nothing is wrong.
func (r *Report) OK() bool { return len(r.Findings) == 0 }

// maxFindings is how many are listed: a table of nonsense has as many as rows.
const maxFindings = 1000

func (r *Report) add(list *[]Finding, f Finding) {
	if len(*list) == maxFindings {
		r.More++
		return
	}
	*list = append(*list, f)
}

// Verify checks the chains of any number of nodes. Rows of a node come by rising
// number, nodes in any order or mixed. heads are all that are known: the vault's,
// and, to find a chain that was cut off or written anew, those that earlier exports
// carried off. Only keys of trust count: a head of another is a finding, and so is
// a chain without a trusted head. The error is the source's, or the context's.
func Verify(ctx context.Context, rows iter.Seq2[Row, error], trust Trust, heads []Head) (*Report, error) {
	v := verifier{report: &Report{}, chains: map[NodeID]*chain{}, link: newLinker()}
	v.know(trust, heads)
	for row, err := range rows {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		v.row(&row)
	}
	for _, node := range slices.SortedFunc(maps.Keys(v.chains), compareNodes) {
		v.end(v.chains[node])
	}
	return v.report, nil
}

func compareNodes(a, b NodeID) int { return slices.Compare(a[:], b[:]) }

type verifier struct {
	report *Report
	chains map[NodeID]*chain
	link   linker
}

// chain is what was seen of one node.
type chain struct {
	NodeReport
	hash    Hash      // of the last record
	twin    Hash      // of another with the same number
	loose   bool      // the last record is not what its hash says: what follows it is not known
	at      time.Time // of the last record
	heads   []Head    // trusted, by number; those before the last row are gone
	against []Head    // trusted, of other records than those seen
}

func (v *verifier) chain(node NodeID) *chain {
	c := v.chains[node]
	if c == nil {
		c = &chain{NodeReport: NodeReport{Node: node}}
		v.chains[node] = c
	}
	return c
}

func (v *verifier) found(c *chain, kind Kind, seq uint64, format string, args ...any) {
	v.report.add(&v.report.Findings, Finding{kind, c.Node, seq, fmt.Sprintf(format, args...)})
}

func (v *verifier) noted(c *chain, kind Kind, seq uint64, format string, args ...any) {
	v.report.add(&v.report.Notes, Finding{kind, c.Node, seq, fmt.Sprintf(format, args...)})
}

// know sorts the heads, and drops those that nobody vouches for.
func (v *verifier) know(trust Trust, heads []Head) {
	for i := range heads {
		h := &heads[i]
		c := v.chain(h.Node)
		switch {
		case !h.Valid():
			v.found(c, Untrusted, h.Seq, "the signature of the head over record %d is wrong", h.Seq)
		case !trust.trusts(h):
			v.found(c, Untrusted, h.Seq, "the head over record %d is signed by %s, which is not trusted", h.Seq, h.Fingerprint())
		default:
			c.heads = append(c.heads, *h)
		}
	}
	for _, c := range v.chains {
		slices.SortStableFunc(c.heads, func(a, b Head) int { return cmp.Compare(a.Seq, b.Seq) })
	}
}

func (v *verifier) row(r *Row) {
	c := v.chain(r.Node)
	if c.Last == 0 {
		v.begin(c, r)
	} else if v.next(c, r) {
		return // what it is was said; the chain goes on without it
	}
	if c.First == 0 {
		c.First = r.Seq
	}
	c.loose = !v.genuine(r)
	if c.loose {
		v.changed(c, r)
	}
	c.Last, c.hash, c.twin = r.Seq, r.Hash, r.Hash
	for len(c.heads) > 0 && c.heads[0].Seq <= r.Seq {
		switch h := c.heads[0]; {
		case h.Seq == r.Seq && h.Hash == r.Hash:
			c.Proven = r.Seq
		case h.Seq == r.Seq:
			c.against = append(c.against, h)
		}
		c.heads = c.heads[1:]
	}
	v.remark(c, r)
}

// begin looks at the first row of a chain. Older ones may have been deleted by age
// if a head proves that this one follows them.
func (v *verifier) begin(c *chain, r *Row) {
	if r.Seq == 1 {
		if r.Prev != (Hash{}) {
			v.found(c, Changed, 1, "record 1 says that there is one before it")
		}
		return
	}
	for _, h := range c.heads {
		if h.Seq == r.Seq-1 && h.Hash == r.Prev {
			return
		}
	}
	v.found(c, Removed, r.Seq, "records 1 to %d are missing, and no trusted head is over the last of them", r.Seq-1)
}

// next compares a row with the one before. True: it is not part of the chain.
func (v *verifier) next(c *chain, r *Row) bool {
	switch {
	case r.Seq == c.Last && r.Hash == c.hash:
		v.found(c, Inserted, r.Seq, "record %d is there twice", r.Seq)
		return true
	case r.Seq == c.Last && v.genuine(r):
		v.found(c, Forked, r.Seq, "there are two records %d, %.8v and %.8v", r.Seq, c.hash, r.Hash)
		c.twin = r.Hash
		return true
	case r.Seq == c.Last:
		v.found(c, Inserted, r.Seq, "there are two records %d, and one is not what its hash says", r.Seq)
		return true
	case r.Seq < c.Last:
		v.found(c, Reordered, r.Seq, "record %d comes after record %d", r.Seq, c.Last)
		return true
	case r.Seq > c.Last+1:
		v.found(c, Removed, r.Seq, "%s missing", span(c.Last+1, r.Seq-1))
	case !c.loose && r.Prev != c.hash && r.Prev != c.twin && v.genuine(r):
		v.found(c, Rewritten, r.Seq, "record %d does not follow the record %d that is there", r.Seq, c.Last)
	}
	return false
}

func span(from, to uint64) string {
	if from == to {
		return fmt.Sprintf("record %d is", from)
	}
	return fmt.Sprintf("records %d to %d are", from, to)
}

// genuine reports whether a row is what its hash says.
func (v *verifier) genuine(r *Row) bool { return v.isRecord(r, r.Seq) }

func (v *verifier) isRecord(r *Row, seq uint64) bool {
	if r.Record.check() != nil {
		return false
	}
	_, hash := v.link.record(&r.Record, r.Node, seq, r.Prev)
	return hash == r.Hash
}

// nearby is how far off a record is looked for that is not in its place.
const nearby = 100

// changed says what a row is that is not what its hash says.
func (v *verifier) changed(c *chain, r *Row) {
	for off := uint64(1); off <= nearby; off++ {
		for _, seq := range [...]uint64{r.Seq - min(off, r.Seq-1), r.Seq + off} {
			if seq != r.Seq && v.isRecord(r, seq) {
				v.found(c, Reordered, r.Seq, "in the place of record %d is record %d", r.Seq, seq)
				return
			}
		}
	}
	v.found(c, Changed, r.Seq, "record %d is not what its hash says", r.Seq)
}

// backwards is how far times may go back without a word: those who append at the
// same time have looked at the clock before.
const backwards = 10 * time.Second

// remark notes what the node itself says, and what the clock does.
func (v *verifier) remark(c *chain, r *Row) {
	back := c.at.Sub(r.At)
	c.at = r.At
	switch {
	case r.Face == FaceNode && r.Action == ActionClock:
		v.noted(c, Clock, r.Seq, "at record %d the clock was set by %q", r.Seq, r.Reason)
		return
	case r.Face == FaceNode && r.Action == ActionStart && strings.HasPrefix(r.Reason, leftWindow):
		v.noted(c, Lost, r.Seq, "the machine went down before record %d: what was done in the 50 ms before is not there", r.Seq)
	}
	if back > backwards {
		v.noted(c, Clock, r.Seq, "record %d is %s older than the one before it", r.Seq, seconds(back))
	}
}

// end looks at what is left when all rows were seen.
func (v *verifier) end(c *chain) {
	v.report.Nodes = append(v.report.Nodes, c.NodeReport)
	if n := len(c.heads); n > 0 {
		h := c.heads[n-1]
		v.found(c, CutOff, c.Last, "it ends with record %d, but a head over record %d was signed at %s", c.Last, h.Seq, h.At.Format(time.RFC3339))
	}
	for _, h := range c.against {
		if c.Proven >= h.Seq {
			v.found(c, Forked, h.Seq, "the node has signed two chains: another record %d at %s", h.Seq, h.At.Format(time.RFC3339))
			continue
		}
		v.found(c, Rewritten, h.Seq, "record %d is not the one over which a head was signed at %s", h.Seq, h.At.Format(time.RFC3339))
	}
	if c.Last > 0 && c.Proven == 0 && len(c.against) == 0 && len(c.heads) == 0 {
		v.found(c, Untrusted, c.Last, "no trusted head is over any of its records")
	}
}
