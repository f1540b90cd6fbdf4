// SPDX-License-Identifier: GPL-3.0-or-later

package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// A secret is what a record says of one name.
type secret struct {
	name string
	kept bool // see Secret.Kept

	// By Begin: puts and creates that did not fail, acknowledged updates and
	// deletes, and reads that found something.
	puts, updates, deletes, reads []*Op
	// removals are deletes that may have removed something.
	removals removals
	// numbers are the versions of puts, where anybody has seen them; holders
	// the other way round, without what PostgreSQL may have lost.
	numbers map[*Op]int
	holders map[int]*Op
	// since is when, for each version, the first put of that number began: it
	// cannot have been there before.
	since map[int]time.Duration
	// before has, for each delete, who knew the highest version that was surely
	// there when it began.
	before map[*Op]*Op
}

// removals are deletes by Begin, with the latest time up to each at which one of
// them may have taken effect.
type removals struct {
	begins, latest []time.Duration
}

func (r *removals) add(op *Op) {
	until := op.latest()
	if n := len(r.latest); n > 0 {
		until = max(until, r.latest[n-1])
	}
	r.begins, r.latest = append(r.begins, op.Begin), append(r.latest, until)
}

// possible: one may have taken effect after one time and before another.
func (r *removals) possible(after, until time.Duration) bool {
	n, _ := slices.BinarySearch(r.begins, until)
	return n > 0 && r.latest[n-1] > after
}

// claims finds out which put made which version, by what all have seen, and
// judges values that were never put and versions with two.
func (c *checker) claims() {
	for _, op := range c.ops { // in the order in which they happened
		if op.makes() && op.Outcome == OK {
			c.hold(c.secrets[op.Name], op.Version, op, op)
		}
	}
	for _, op := range c.ops {
		if op.Kind == Read && op.Outcome == OK && !op.Missing {
			c.claim(c.secrets[op.Name], op.Shown(), op.Value, op)
		}
		if op.Kind == Read && op.Outcome == OK && op.Description != "" {
			c.described(op.Name, op.Description, op)
		}
	}
	for name, secret := range c.final {
		for version, value := range secret.Values {
			c.claim(c.secrets[name], version, value, nil)
		}
		if secret.Description != "" {
			c.described(name, secret.Description, nil)
		}
	}
}

// claim judges that a version has a value, as by saw it; nil: the final state.
func (c *checker) claim(s *secret, version int, value string, by *Op) {
	put := c.stored[value]
	if text := c.impossible(put, s.name, by); text != "" {
		c.violate(NeverPut, s.name, fmt.Sprintf("version %d is %q %s: %s", version, value, seenBy(by), text), put, by)
		c.astray[by] = true
		return
	}
	if by != nil && by.Asked > by.Version && by.Version != 0 {
		c.violate(VersionOrder, s.name, fmt.Sprintf("version %d can be read while %d is the current one", by.Asked, by.Version), by)
	}
	number, known := s.numbers[put]
	switch {
	case version == 0:
	case !known:
		s.numbers[put] = version
		c.hold(s, version, put, by)
	case number != version:
		c.violate(NeverPut, s.name, fmt.Sprintf("version %d is %q %s, which is version %d", version, value, seenBy(by), number), put, by)
		c.astray[by] = true
	}
}

// impossible says why nobody can see what a write stored; empty: one can.
func (c *checker) impossible(write *Op, name string, by *Op) string {
	switch {
	case write == nil:
		return "nobody has stored that"
	case write.Name != name:
		return "that was stored under another name"
	case write.Outcome == Failed:
		return "its writer was told that it failed"
	case by != nil && by.End < write.Begin:
		return "that was stored only later"
	}
	return ""
}

func seenBy(by *Op) string {
	if by == nil {
		return "in the end"
	}
	return "to a reader"
}

// hold: put made a version, as by saw it.
func (c *checker) hold(s *secret, version int, put, by *Op) {
	if since, known := s.since[version]; !known || put.Begin < since {
		s.since[version] = put.Begin
	}
	if c.lost.covers(put) {
		return // another may have the number
	}
	if holder := s.holders[version]; holder != nil && holder != put {
		if by == put {
			by = nil
		}
		c.violate(TwoValues, s.name, fmt.Sprintf("version %d has two values", version), holder, put, by)
		return
	}
	s.holders[version] = put
}

// number is the version whose value an operation shows; 0: nobody knows.
func (c *checker) number(s *secret, op *Op) int {
	if version := op.Shown(); version != 0 {
		return version
	}
	return s.numbers[c.stored[op.Value]]
}

// order judges that a version made is higher than all that were there before its
// put began, and that a delete finds what was there. Both are done where the
// latest state is.
func (c *checker) order(s *secret) {
	seen := slices.DeleteFunc(slices.Concat(s.puts, s.reads), func(op *Op) bool {
		return op.Outcome != OK || c.astray[op] || c.lost.covers(c.stored[op.Value])
	})
	slices.SortStableFunc(seen, func(a, b *Op) int { return cmp.Compare(a.End, b.End) })
	writes := slices.Concat(s.puts, s.deletes)
	slices.SortStableFunc(writes, func(a, b *Op) int { return cmp.Compare(a.Begin, b.Begin) })
	var highest *Op
	for _, op := range writes {
		for ; len(seen) > 0 && seen[0].End < op.Begin; seen = seen[1:] {
			if highest == nil || c.number(s, seen[0]) > c.number(s, highest) {
				highest = seen[0]
			}
		}
		if highest == nil {
			continue
		}
		version := c.number(s, highest)
		number, made := s.numbers[op]
		switch {
		case op.Kind == Delete && op.Missing && !s.removals.possible(s.since[version], op.End):
			c.violate(LostWrite, s.name, fmt.Sprintf("a delete finds nothing, though version %d was there and nobody has deleted it", version), highest, op)
		case op.Kind == Delete:
			s.before[op] = highest
		case made && number < version && !c.lost.covers(op):
			c.violate(VersionOrder, s.name, fmt.Sprintf("version %d was made after version %d was there", number, version), highest, op)
		}
	}
}
