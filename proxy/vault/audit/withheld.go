// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// RemarkShipWrites is the remark of a node that ships what changes secrets, and of
// other records no more than their hashes: who verifies its chain knows why there are
// rows without content.
const RemarkShipWrites = "ship writes"

// remarkMark stands before a remark in the reason of a start.
const remarkMark = "; "

// shipMode is what a node ships, as far as is known.
type shipMode int

const (
	shipsUnknown shipMode = iota // its start is not there, or not proven
	shipsAll
	shipsWrites
	shipModes
)

func modeOf(start *Row) shipMode {
	if strings.HasSuffix(start.Reason, remarkMark+RemarkShipWrites) {
		return shipsWrites
	}
	return shipsAll
}

// withheld reports whether a row has nothing but its place in the chain: the time
// is not proven either.
func (r *Row) withheld() bool {
	rest := r.Record
	rest.At, rest.Action = time.Time{}, ""
	return r.Action == ActionWithheld && rest == Record{}
}

// stretch is rows, not all of those between the first and the last.
type stretch struct {
	rows        uint64
	first, last uint64
}

func (s stretch) String() string {
	if s.rows == s.last-s.first+1 {
		return span(s.first, s.last) + " withheld"
	}
	return fmt.Sprintf("%d of records %d to %d are withheld", s.rows, s.first, s.last)
}

// Looks reports whether a record tells of nothing but that somebody saw what he may
// see: what a node withholds that ships writes alone.
func (r *Record) Looks() bool {
	if r.Outcome != OutcomeOK && r.Outcome != OutcomeMismatch {
		return false
	}
	switch r.Action {
	case ActionRead, ActionVerify, ActionList, ActionRoleList, ActionTokenList:
		return true
	default:
		return false
	}
}

// turn begins a stretch in which the node ships otherwise.
func (v *verifier) turn(c *chain, mode shipMode) {
	v.judge(c)
	c.mode, c.says, c.apart, c.whole = mode, false, false, 0
}

// start takes one. That the node ships writes alone counts as soon as a trusted head
// is over it, with nothing withheld between: whatever such a row says to follow, its
// hash cannot be computed, so anybody can write what is before it.
func (v *verifier) start(c *chain, r *Row) {
	switch mode := modeOf(r); {
	case mode == shipsAll:
		v.turn(c, shipsAll)
	case c.mode != shipsWrites:
		v.turn(c, shipsUnknown)
		c.says = true
	}
}

// whole takes a record that a node would have withheld that ships writes alone: from
// here on this one ships everything, up to the next start. Where no start is there, it
// did before as well; behind one that says otherwise, and is proven or, by the operator's
// word, right, the next start may have shipped what was left.
func (v *verifier) whole(c *chain, r *Row) {
	if c.mode == shipsAll {
		return
	}
	if c.says && v.writes(c.Node) {
		v.judge(c)
	}
	c.mode, c.says, c.whole = shipsAll, false, r.Seq
	v.judge(c)
}

// hide counts rows that are withheld. Those of a node that ships everything are
// told one stretch after the other.
func (v *verifier) hide(c *chain, r *Row) {
	if !r.withheld() {
		v.tell(c)
		return
	}
	s := &c.hidden[c.mode]
	if s.rows++; s.rows == 1 {
		s.first = r.Seq
	}
	s.last = r.Seq
}

// tell ends a stretch that nobody has announced.
func (v *verifier) tell(c *chain) {
	if s := &c.hidden[shipsAll]; s.rows > 0 {
		v.unannounced(c, *s)
		*s = stretch{}
	}
}

func (v *verifier) unannounced(c *chain, s stretch) {
	shows := ""
	if c.whole > 0 {
		shows = fmt.Sprintf(", as record %d shows", c.whole)
	}
	v.found(c, Withheld, s.first, "%s, but the node ships everything%s", s, shows)
}

// writes reports whether a node ships writes alone by the operator's word.
func (v *verifier) writes(node NodeID) bool { return slices.Contains(v.demands.Writes, node) }

// judge ends a stretch of which no start says whether something may be withheld.
func (v *verifier) judge(c *chain) {
	v.tell(c)
	s := c.hidden[shipsUnknown]
	c.hidden[shipsUnknown] = stretch{}
	switch {
	case s.rows == 0:
	case c.mode == shipsAll:
		v.unannounced(c, s)
	case v.writes(c.Node):
		v.noted(c, Withheld, s.first, "%s, and it is said that the node ships writes alone", s)
	default:
		v.found(c, Withheld, s.first, "%s, and no start that is proven says so", s)
	}
}

// disclose says at the end what is withheld.
func (v *verifier) disclose(c *chain) {
	v.judge(c)
	if s := c.hidden[shipsWrites]; s.rows > 0 {
		v.noted(c, Withheld, s.first, "%s: the node ships writes alone", s)
	}
}
