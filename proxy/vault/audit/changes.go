// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// clockSpan is how far the clocks of a node and a server may be apart, and how long
// before its transaction a change may be named.
const clockSpan = 5 * time.Minute

// compare looks for changes that no record names, and the reverse.
func (v *verifier) compare(ctx context.Context, changes iter.Seq2[Change, error]) error {
	from, known := v.comparable()
	until := v.evidence.At.Add(-v.demands.Grace)
	var first int64
	older, young := 0, 0
	for c, err := range changes {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if first == 0 {
			first = c.ID
		}
		named := v.named.take(c.ID, c.At)
		switch {
		case !known || !named && c.At.Before(from):
			older++
			continue
		case named || v.named.full || v.truncated:
		case c.At.After(until):
			young++
			continue
		default:
			v.report.found(Finding{Kind: NotThroughNode, Change: c.ID, Detail: c.text()})
		}
		v.report.Compared++
	}
	note := func(kind Kind, format string, args ...any) {
		v.report.noted(Finding{Kind: kind, Detail: fmt.Sprintf(format, args...)})
	}
	if older > 0 {
		note(NotCompared, "changes that are older than the records, which say nothing of them: %d", older)
	}
	if young > 0 {
		note(NotCompared, "changes that have no record yet, and are less than %s old: %d", v.demands.Grace, young)
	}
	if v.named.full {
		v.report.found(Finding{Kind: NotCompared, Detail: "the records name changes whose numbers no sequence makes"})
	} else if n, list := v.named.list(first); n > 0 {
		note(ChangeMissing, "%d that records name, rolled back, not yet committed, or removed: %s", n, list)
	}
	return nil
}

// comparable is from when on each change has a record, wherever it was made: no
// records of that time were deleted for their age.
func (v *verifier) comparable() (from time.Time, known bool) {
	var earliest, pruned time.Time
	for _, c := range v.chains {
		switch {
		case c.Last == 0 && len(c.heads) > 0: // all of its records were deleted, maybe for their age
			if until := c.heads[len(c.heads)-1].At.Add(clockSpan); until.After(pruned) {
				pruned = until
			}
			continue
		case c.Last == 0 || c.began.IsZero(): // it says nothing of when
			continue
		case !known || c.began.Before(earliest):
			earliest = c.began
		}
		if known = true; c.First > 1 && c.began.After(pruned) {
			pruned = c.began
		}
	}
	if pruned.After(earliest) {
		return pruned, known
	}
	return earliest, known
}

func (c *Change) text() string {
	s := fmt.Sprintf("%q of %q by %q", c.Action, c.Subject, c.SessionRole)
	if c.CurrentRole != c.SessionRole {
		s += fmt.Sprintf(" as %q", c.CurrentRole)
	}
	return s + " at " + date(c.At)
}

// Pages of namings. A change in a page of its own takes much more memory than one
// among others, and no sequence makes many of those.
const (
	pageIDs  = 256
	maxPages = 1 << 19 // half a GiB
)

// namings are when changes were named. Their ids come from a sequence: 1 and up.
// The zero value is empty.
type namings struct {
	pages map[int64]*[pageIDs]uint32 // by the last record that does, in seconds since 1970
	full  bool                       // some could not be added
}

func (s *namings) add(id int64, at time.Time) {
	page := s.pages[id/pageIDs]
	if page == nil {
		if s.full = s.full || len(s.pages) == maxPages; s.full {
			return
		}
		if s.pages == nil {
			s.pages = map[int64]*[pageIDs]uint32{}
		}
		page = new([pageIDs]uint32)
		s.pages[id/pageIDs] = page
	}
	named := min(max(at.Unix(), 1), math.MaxUint32)
	page[id%pageIDs] = max(page[id%pageIDs], uint32(named))
}

// take removes a change, and reports whether a record of its time or later names it:
// after a restore numbers come again.
func (s *namings) take(id int64, at time.Time) bool {
	page := s.pages[id/pageIDs]
	if page == nil || id < 0 {
		return false
	}
	named := time.Unix(int64(page[id%pageIDs]), 0)
	if named.Unix() == 0 || named.Before(at.Add(-clockSpan)) {
		return false
	}
	page[id%pageIDs] = 0
	return true
}

// maxListed is how many runs of numbers are spelled out.
const maxListed = 20

// list says which are there from one on, and how many.
func (s *namings) list(from int64) (n int, text string) {
	type run struct{ first, last int64 }
	var runs []run
	for _, number := range slices.Sorted(maps.Keys(s.pages)) {
		for i, named := range s.pages[number] {
			id := number*pageIDs + int64(i)
			if named == 0 || id < from {
				continue
			}
			n++
			if last := len(runs) - 1; last >= 0 && runs[last].last == id-1 {
				runs[last].last = id
			} else if len(runs) <= maxListed {
				runs = append(runs, run{id, id})
			}
		}
	}
	var parts []string
	for _, r := range runs[:min(len(runs), maxListed)] {
		if r.first == r.last {
			parts = append(parts, fmt.Sprint(r.first))
		} else {
			parts = append(parts, fmt.Sprintf("%d–%d", r.first, r.last))
		}
	}
	if len(runs) > maxListed {
		parts = append(parts, "…")
	}
	return n, strings.Join(parts, ", ")
}
