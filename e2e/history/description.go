// SPDX-License-Identifier: GPL-3.0-or-later

package history

import (
	"fmt"
	"slices"
	"time"
)

// Descriptions have no numbers. One that is shown is too old if its update was
// surely over when another began that is known to have happened.

// described judges that a description was stored under the name at all.
func (c *checker) described(name, description string, by *Op) {
	update := c.updates[description]
	if text := c.impossible(update, name, by); text != "" {
		c.violate(NeverPut, name, fmt.Sprintf("the description is %q %s: %s", description, seenBy(by), text), update, by)
		c.astray[by] = true
	}
}

// outdated: what is shown until some time is older than an update that is known
// to have happened. An empty description is that of a secret made anew, or older
// than any.
func (c *checker) outdated(s *secret, description string, known *Op, until time.Duration) bool {
	if description == "" {
		return !s.removals.possible(known.Begin, until)
	}
	return c.updates[description] != known && c.updates[description].latest() < known.Begin
}

// redescribed judges the description that a session reads by what it knows.
func (c *checker) redescribed(s *secret, v *view, op *Op) {
	if v.described != nil && c.outdated(s, op.Description, v.described, op.End) {
		c.older(s, v.describedBy, op, fmt.Sprintf("the description is %q, older than %q", op.Description, v.described.Description))
		return
	}
	update := c.updates[op.Description]
	if update != nil && (v.described == nil || update.Begin > v.described.Begin) {
		v.described, v.describedBy = update, op
	}
}

// finalDescription judges that no acknowledged update is gone. The last one that
// is tells of those before it.
func (c *checker) finalDescription(s *secret, final Secret) {
	shown := c.updates[final.Description]
	if final.Description != "" && shown == nil {
		return // never put
	}
	for _, op := range slices.Backward(s.updates) {
		if s.removals.possible(op.Begin, never) || !c.outdated(s, final.Description, op, never) {
			continue
		}
		c.judge(LostWrite, s.name, fmt.Sprintf("in the end the description is %q", final.Description), op, shown)
		if !c.lost.covers(op) {
			return
		}
	}
}
