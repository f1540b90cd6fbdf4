// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// missing is records that are not there. A later record of the node itself may name
// them as lost by a restore.
type missing struct {
	from, to uint64
	finding  int    // its place in the report
	by       uint64 // the record that names it; 0: none
	reason   string
	proven   bool // a trusted head is over that record
	shown    bool // and over the one before the first that is missing
}

// clockSlack is by how much a node's clock may differ from the one by which records
// were deleted for their age.
const clockSlack = time.Hour

// begin looks at the first row of a chain. Older ones may have been deleted for
// their age if a head proves where this one follows.
func (v *verifier) begin(c *chain, r *Row) {
	if r.Seq == 1 {
		if c.mode = shipsAll; r.Prev != (Hash{}) {
			v.found(c, Changed, 1, "record 1 says that there is one before it")
		}
		return
	}
	var before *Head // the last one over a record before this one
	for i := range c.heads {
		if h := &c.heads[i]; h.Seq < r.Seq-1 || h.Seq == r.Seq-1 && h.Hash == r.Prev {
			before = h
		}
	}
	switch {
	case before != nil:
		v.pruned(c, before)
		if before.Seq < r.Seq-1 {
			v.removed(c, before.Seq, r.Seq, true)
		}
	case v.demands.Part:
		v.noted(c, Pruned, r.Seq, "%s not in this part", span(1, r.Seq-1))
	default:
		v.removed(c, 0, r.Seq, true)
	}
}

// pruned judges that nothing is there up to a head.
func (v *verifier) pruned(c *chain, h *Head) {
	if v.mayBeGone(h) {
		v.noted(c, Pruned, h.Seq, "%s not there any more; a head over the last of them was signed at %s", span(1, h.Seq), date(h.At))
		return
	}
	v.found(c, Removed, h.Seq, "%s missing; a head over the last of them was signed at %s, too late to be deleted for its age", span(1, h.Seq), date(h.At))
}

// mayBeGone reports whether what a head is over may have been deleted for its age.
func (v *verifier) mayBeGone(h *Head) bool {
	limit := v.evidence.At.Add(clockSlack - v.demands.MinAge)
	return v.demands.Part || v.demands.MinAge <= 0 || !h.At.After(limit)
}

// removed notes that records are missing between two; shown: a trusted head is over
// the first.
func (v *verifier) removed(c *chain, last, next uint64, shown bool) {
	c.broken()
	c.mode = shipsUnknown
	m := &missing{from: last + 1, to: next - 1, finding: len(v.report.Findings), shown: shown}
	f := Finding{Kind: Removed, Node: c.Node, Seq: next, Detail: span(m.from, m.to) + " missing"}
	if last == 0 {
		f.Detail += ", and no trusted head is over the last of them"
	}
	if v.report.add(&v.report.Findings, f) {
		c.missing = append(c.missing, m)
		v.missing = append(v.missing, m)
	}
}

// gapFormat begins the reason of a record of a gap; why is behind it.
const gapFormat = "records %d to %d; "

// GapRecord is what a node says of records that the vault has lost, and that it does
// not have any more itself.
func GapRecord(from, to uint64, why string) Record {
	return nodeRecord(ActionGap, fmt.Sprintf(gapFormat, from, to)+why)
}

// claim takes a record that names what was lost. It counts once it is proven.
func (c *chain) claim(r *Row) {
	var from, to uint64
	if n, err := fmt.Sscanf(r.Reason, gapFormat, &from, &to); n != 2 || err != nil || to >= r.Seq {
		return
	}
	for _, m := range c.missing {
		if m.by == 0 && from <= m.from && m.to <= to {
			m.by, m.reason = r.Seq, strings.TrimPrefix(r.Reason, fmt.Sprintf(gapFormat, from, to))
		}
	}
}

// broken forgets claims over which no head is yet: what comes next does not vouch
// for them.
func (c *chain) broken() {
	for _, m := range c.missing {
		if !m.proven {
			m.by = 0
		}
	}
}

// proven is called when a trusted head is over the last record.
func (c *chain) proven() {
	for _, m := range c.missing {
		m.proven = m.by != 0
	}
}

// explain makes notes of findings that the nodes themselves have explained.
func (v *verifier) explain() {
	gone := map[int]bool{}
	for _, m := range v.missing {
		f := v.report.Findings[m.finding]
		if !m.proven {
			continue
		}
		if !m.shown {
			v.report.Findings[m.finding].Kind = Untrusted
			v.report.Findings[m.finding].Detail = fmt.Sprintf("no trusted head is over record %d, behind which %s lost by restore", m.from-1, span(m.from, m.to))
			continue
		}
		gone[m.finding] = true
		v.report.add(&v.report.Notes, Finding{
			Kind: LostByRestore, Node: f.Node, Seq: m.by,
			Detail: fmt.Sprintf("%s not there, and record %d says why: %q", span(m.from, m.to), m.by, m.reason),
		})
	}
	i := -1
	v.report.Findings = slices.DeleteFunc(v.report.Findings, func(Finding) bool { i++; return gone[i] })
}

// shorter judges that a chain ends before a head.
func (v *verifier) shorter(c *chain, h *Head) {
	switch {
	case c.Last > 0:
		v.found(c, CutOff, c.Last, "it ends with record %d, but a head over record %d was signed at %s", c.Last, h.Seq, date(h.At))
	case v.mayBeGone(h):
		v.noted(c, Pruned, h.Seq, "none of its records is there any more; a head over record %d was signed at %s", h.Seq, date(h.At))
	default:
		v.found(c, CutOff, 0, "none of its records is there, but a head over record %d was signed at %s", h.Seq, date(h.At))
	}
}

// absent finds nodes of which there should be something.
func (v *verifier) absent() {
	for _, node := range slices.SortedFunc(maps.Keys(v.demands.Trust), compareNodes) {
		if v.chains[node] == nil && !v.demands.Part {
			v.report.add(&v.report.Findings, Finding{Kind: CutOff, Node: node, Detail: "its key is trusted, and nothing of it is there"})
		}
	}
	if len(v.chains)+len(v.demands.Trust) == 0 {
		v.report.add(&v.report.Findings, Finding{Kind: CutOff, Detail: "there is no record at all"})
	}
	if v.surplus > 0 {
		v.report.add(&v.report.Findings, Finding{Kind: Untrusted, Detail: fmt.Sprintf("%d records are of more nodes than %d, and were not looked at", v.surplus, maxNodes)})
	}
}
