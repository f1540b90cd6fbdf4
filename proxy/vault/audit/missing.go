// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// missing is records that are not there. A later record of the node itself may name
// them as lost by a restore.
type missing struct {
	from, to uint64
	finding  Finding
	by       uint64 // the record that names it; 0: none
	on       timelines
	heads    string // trusted ones that are over what is missing, in words
	proven   bool   // a trusted head is over the record that names it
	shown    bool   // and over the one before the first that is missing
}

// timelines are the vault's when the node last had its answer, and when it found
// that records are missing.
type timelines struct{ before, after uint32 }

// restored reports whether the node saw that the server was restored or promoted.
// That it did not proves nothing: a copy of the files goes on with their timeline.
func (t timelines) restored() bool { return t.before != 0 && t.after != 0 && t.before != t.after }

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
	case before != nil && (before.Seq == r.Seq-1 || !v.demands.Ahead): // a spool begins anywhere, others behind a head
		// The node's word: the first row's time may not be, and may be much later.
		c.began = before.At.Add(clockSpan)
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
	v.turn(c, shipsUnknown)
	if len(v.missing) == maxFindings { // it counts, whatever is said of it later
		v.report.MoreFindings++
		return
	}
	m := &missing{from: last + 1, to: next - 1, heads: c.within(last+1, next-1), shown: shown}
	m.finding = Finding{Kind: Removed, Node: c.Node, Seq: next, Detail: span(m.from, m.to) + " missing"}
	if last == 0 {
		m.finding.Detail += ", and no trusted head is over the last of them"
	}
	m.finding.Detail += m.heads
	c.missing = append(c.missing, m)
	v.missing = append(v.missing, m)
}

// within says which trusted heads are over records that are not there: they were.
func (c *chain) within(from, to uint64) string {
	n, last := 0, Head{}
	for _, h := range c.heads {
		if h.Seq > to {
			break // they are by number, and there may be many
		}
		if from <= h.Seq {
			n, last = n+1, h
		}
	}
	switch n {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("; a trusted head over record %d was signed at %s", last.Seq, date(last.At))
	}
	return fmt.Sprintf("; %d trusted heads are over some of them, the last one over record %d, signed at %s", n, last.Seq, date(last.At))
}

// gapFormat is the reason of a record of a gap.
const gapFormat = "records %d to %d; timeline %d to %d"

// GapRecord is what a node says of records that the vault has lost, and that it does
// not have any more itself. before and after are the vault's timelines when it last
// answered, or 0, and when it showed.
func GapRecord(from, to uint64, before, after uint32) Record {
	return nodeRecord(ActionGap, fmt.Sprintf(gapFormat, from, to, before, after))
}

// claim takes a record that names what was lost. It counts once it is proven.
func (c *chain) claim(r *Row) {
	var from, to uint64
	var on timelines
	if n, err := fmt.Sscanf(r.Reason, gapFormat, &from, &to, &on.before, &on.after); n != 4 || err != nil || to >= r.Seq {
		return
	}
	for _, m := range c.missing {
		if m.by == 0 && from <= m.from && m.to <= to {
			m.by, m.on = r.Seq, on
		}
	}
}

// broken forgets claims over which no head is yet: what comes next does not vouch
// for them.
func (c *chain) broken() {
	c.says = false
	for _, m := range c.missing {
		if !m.proven {
			m.by = 0
		}
	}
}

// proven is called when a trusted head is over the last record.
func (v *verifier) proven(c *chain) {
	if c.says && !c.apart {
		v.turn(c, shipsWrites)
	}
	for _, m := range c.missing {
		m.proven = m.by != 0
	}
}

// explain says of what is missing what the nodes themselves say. It is a note where
// the operator knows of it as well: to a node, a vault that was restored and one out
// of which somebody has deleted are the same. Only here do findings of it take room.
func (v *verifier) explain() {
	for _, m := range v.missing {
		f := m.finding
		switch {
		case !m.proven:
		case !m.shown:
			f.Kind = Untrusted
			f.Detail = fmt.Sprintf("no trusted head is over record %d, behind which %s lost by restore", m.from-1, span(m.from, m.to)) + m.heads
		default:
			f.Kind, f.Seq, f.Detail = LostByRestore, m.by, m.text()
			if v.demands.restored(f.Node, m.from, m.to) {
				v.report.noted(f)
				continue
			}
		}
		v.report.found(f)
	}
}

func (m *missing) text() string {
	s := fmt.Sprintf("%s not there, and record %d says why: \"timeline %d to %d\"", span(m.from, m.to), m.by, m.on.before, m.on.after)
	if !m.on.restored() {
		s += "; no restore is known to the node"
	}
	return s + m.heads
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
			v.report.found(Finding{Kind: CutOff, Node: node, Detail: "its key is trusted, and nothing of it is there"})
		}
	}
	if len(v.chains)+len(v.demands.Trust) == 0 {
		v.report.found(Finding{Kind: CutOff, Detail: "there is no record at all"})
	}
	if v.surplus > 0 {
		v.report.found(Finding{Kind: Untrusted, Detail: fmt.Sprintf("%d records are of more nodes than %d, and were not looked at", v.surplus, maxNodes)})
	}
}
