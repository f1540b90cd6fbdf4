// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Verify checks the chains, and that each change has its record. heads are the
// vault's, and, to find a chain that was cut off or written anew, those that earlier
// exports carried off. Memory is bounded, however many rows there are. The error is
// the source's, or the context's.
func (e *Evidence) Verify(ctx context.Context, d Demands) (*Report, error) {
	v := verifier{evidence: e, demands: d, report: &Report{}, chains: map[NodeID]*chain{}, link: newLinker()}
	v.know(e.Heads)
	for row, err := range e.Rows {
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, ErrDamaged) {
			v.report.found(Finding{Kind: Damaged, Detail: err.Error()})
			v.truncated = true
			break // nothing behind it can be read
		}
		if err != nil {
			return nil, err
		}
		v.row(&row)
	}
	v.absent()
	for _, node := range slices.SortedFunc(maps.Keys(v.chains), compareNodes) {
		v.end(v.chains[node])
	}
	v.explain()
	switch {
	case e.Changes != nil:
		if err := v.compare(ctx, e.Changes); err != nil {
			return nil, err
		}
	case !d.Ahead: // else it is a spool, which has none
		v.report.noted(Finding{Kind: NotCompared, Detail: "there are no changes in what was read: what was done past the nodes does not show"})
	}
	return v.report, nil
}

func compareNodes(a, b NodeID) int { return slices.Compare(a[:], b[:]) }

// maxNodes is how many chains are followed: a table of nonsense has as many as rows.
const maxNodes = 10_000

type verifier struct {
	evidence  *Evidence
	demands   Demands
	report    *Report
	chains    map[NodeID]*chain
	surplus   int // rows of other nodes
	link      linker
	missing   []*missing
	named     namings // of changes, by genuine records
	truncated bool    // nothing is known of what came behind a damaged place
}

// chain is what was seen of one node.
type chain struct {
	NodeReport
	began   time.Time // from then on its records are there; zero: not known
	hash    Hash      // of the last record
	twin    Hash      // of another with the same number
	loose   bool      // the last record is not what its hash says: what follows it is not known
	at      time.Time // of the last record
	heads   []Head    // trusted, by number; those before the last row are gone
	against []Head    // trusted, of other records than those seen
	missing []*missing
	mode    shipMode
	says    bool   // the last start says that it ships writes, and no head proves it yet
	apart   bool   // none will: behind that start something is withheld
	whole   uint64 // the record that shows that mode, if it is no start
	hidden  [shipModes]stretch
}

func (v *verifier) chain(node NodeID) *chain {
	c := v.chains[node]
	if c == nil {
		c = &chain{NodeReport: NodeReport{Node: node}}
		v.chains[node] = c
	}
	return c
}

// full reports whether this node would be one too many. Those that are trusted never are.
func (v *verifier) full(node NodeID) bool {
	_, trusted := v.demands.Trust[node]
	return !trusted && v.chains[node] == nil && len(v.chains) >= maxNodes
}

func (v *verifier) found(c *chain, kind Kind, seq uint64, format string, args ...any) {
	v.report.found(Finding{Kind: kind, Node: c.Node, Seq: seq, Detail: fmt.Sprintf(format, args...)})
}

func (v *verifier) noted(c *chain, kind Kind, seq uint64, format string, args ...any) {
	v.report.noted(Finding{Kind: kind, Node: c.Node, Seq: seq, Detail: fmt.Sprintf(format, args...)})
}

// know sorts the heads, and drops those that nobody vouches for.
func (v *verifier) know(heads []Head) {
	type signer struct {
		node  NodeID
		key   Fingerprint
		valid bool
	}
	dropped, surplus := map[signer]int{}, 0
	var first []*Head // of each
	for i := range heads {
		h := &heads[i]
		if v.full(h.Node) {
			surplus++
			continue
		}
		by := signer{h.Node, h.Fingerprint(), h.Valid()}
		c := v.chain(h.Node)
		if by.valid && v.demands.Trust.trusts(h) {
			c.heads = append(c.heads, *h)
			continue
		}
		if dropped[by]++; dropped[by] == 1 {
			first = append(first, h)
		}
	}
	if surplus > 0 { // the first finding: of the others there may be too many
		v.report.found(Finding{Kind: Untrusted, Detail: fmt.Sprintf("%d heads are of more nodes than %d, and were not looked at", surplus, maxNodes)})
	}
	for _, h := range first {
		by := signer{h.Node, h.Fingerprint(), h.Valid()}
		which := fmt.Sprintf("the head over record %d", h.Seq)
		if n := dropped[by]; n > 1 {
			which = fmt.Sprintf("of %d heads, the first over record %d, each", n, h.Seq)
		}
		if !by.valid {
			v.found(v.chain(h.Node), Untrusted, h.Seq, "%s has a wrong signature", which)
			continue
		}
		v.found(v.chain(h.Node), Untrusted, h.Seq, "%s is signed by %s, which is not trusted", which, by.key)
	}
	for _, c := range v.chains {
		slices.SortStableFunc(c.heads, func(a, b Head) int { return cmp.Compare(a.Seq, b.Seq) })
		c.heads = slices.Compact(c.heads) // from a table and an export of it
	}
}

func (v *verifier) row(r *Row) {
	if v.full(r.Node) {
		v.surplus++
		return
	}
	c := v.chain(r.Node)
	if r.Seq < 1 || r.Seq > maxSeq { // it is of no chain, and vouches for nothing
		v.found(c, Changed, r.Seq, "a record has the number %d, which none can have", r.Seq)
		return
	}
	if c.Last == 0 {
		v.begin(c, r)
	} else if v.next(c, r) {
		return // what it is was said; the chain goes on without it
	}
	if c.First == 0 {
		c.First = r.Seq
	}
	if c.began.IsZero() && !r.withheld() {
		c.began = r.At
	}
	if c.loose = !r.withheld() && !v.genuine(r); c.loose {
		v.changed(c, r)
		c.broken()
	} else {
		v.takes(c, r)
	}
	c.Last, c.hash, c.twin = r.Seq, r.Hash, r.Hash
	for len(c.heads) > 0 && c.heads[0].Seq <= r.Seq {
		switch h := c.heads[0]; {
		case h.Seq == r.Seq && h.Hash == r.Hash:
			c.Proven = r.Seq
			v.proven(c)
		case h.Seq == r.Seq:
			c.against = append(c.against, h)
		}
		c.heads = c.heads[1:]
	}
	v.hide(c, r)
	v.remark(c, r)
}

// takes learns from a record that is what its hash says.
func (v *verifier) takes(c *chain, r *Row) {
	if r.withheld() {
		c.apart = true
		return
	}
	if r.Change != 0 {
		v.named.add(r.Change, r.At)
	}
	if r.Looks() {
		v.whole(c, r)
	}
	if r.Face != FaceNode {
		return
	}
	switch r.Action { //nolint:exhaustive // the others say nothing of the chain
	case ActionStart:
		v.start(c, r)
	case ActionGap:
		c.claim(r)
	}
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
		v.removed(c, c.Last, r.Seq, c.Proven == c.Last)
	case !c.loose && r.Prev != c.hash && r.Prev != c.twin && (r.withheld() || v.genuine(r)):
		v.found(c, Rewritten, r.Seq, "record %d does not follow the record %d that is there", r.Seq, c.Last)
		c.broken()
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
		v.noted(c, MayBeMissing, r.Seq, "the machine went down before record %d: what was done in the 50 ms before, and the time of three syncs, may not be there", r.Seq)
	}
	if back > backwards {
		v.noted(c, Clock, r.Seq, "record %d is %s older than the one before it", r.Seq, seconds(back))
	}
}

// end looks at what is left when all rows were seen.
func (v *verifier) end(c *chain) {
	v.report.Nodes = append(v.report.Nodes, c.NodeReport)
	v.disclose(c)
	if n := len(c.heads); n > 0 && !v.truncated {
		v.shorter(c, &c.heads[n-1])
	}
	for _, h := range c.against {
		if c.Proven >= h.Seq {
			v.found(c, Forked, h.Seq, "the node has signed two chains: another record %d at %s", h.Seq, date(h.At))
			continue
		}
		v.found(c, Rewritten, h.Seq, "record %d is not the one over which a head was signed at %s", h.Seq, date(h.At))
	}
	switch {
	case c.Last == c.Proven || len(c.against) > 0 || len(c.heads) > 0:
	case c.Proven == 0:
		v.found(c, Untrusted, c.Last, "no trusted head is over any of its records")
	case !v.demands.Ahead || v.evidence.Changes != nil: // the vault never is, and a spool has no changes
		v.found(c, Untrusted, c.Last, "no trusted head is over what is behind record %d", c.Proven)
	}
}

func date(t time.Time) string { return t.UTC().Format(time.RFC3339) }
