// SPDX-License-Identifier: GPL-3.0-or-later

package history

import "fmt"

// A view is what a session knows of a secret, and so must find again.
type view struct {
	// seen is the highest version that it wrote or read, gone the highest that
	// it knows to be deleted: what is current is not below seen, and above gone.
	seen, gone     int
	seenOp, goneOp *Op
	// described is the update whose description it wrote or read last, by
	// describedBy.
	described, describedBy *Op
}

// viewer is who has views: a session or, with Rules.Across, a client.
type viewer struct {
	id     int
	secret *secret
}

// sessions goes through all operations as they happened, each session with what
// it knows by then.
func (c *checker) sessions() {
	views := map[viewer]*view{}
	settings := map[int]*Settings{} // by session; nil: not known
	for _, op := range c.ops {
		c.hangs(op)
		c.settings(settings, op)
		if op.Name == "" || op.Outcome != OK || c.astray[op] {
			continue
		}
		who := viewer{id: op.Session, secret: c.secrets[op.Name]}
		if c.rules.Across && len(c.rules.Lost) == 0 {
			who.id = op.Client
		}
		v := views[who]
		if v == nil {
			v = &view{}
			views[who] = v
		}
		if op.REST && op.Kind != Read && c.lost.covers(op) {
			continue // no session's end tells that another server is the primary
		}
		switch op.Kind {
		case Put, Create:
			v.see(op.Version, op)
		case Update:
			v.described, v.describedBy = op, op
		case Delete:
			c.deleted(who.secret, v, op)
		case Read:
			c.read(who.secret, v, op)
			if op.Version > 0 && !op.REST {
				c.redescribed(who.secret, v, op)
			}
		case Connect, Set:
		}
	}
}

// settings judges that a statement finds what its session has set last.
func (c *checker) settings(current map[int]*Settings, op *Op) {
	switch {
	case op.Kind == Set && op.Outcome == OK:
		current[op.Session] = op.Set
	case op.Kind == Set && op.Outcome == Unknown:
		delete(current, op.Session)
	case op.Outcome == OK && op.Seen != nil && current[op.Session] != nil && *op.Seen != *current[op.Session]:
		c.violate(WrongSettings, op.Name, fmt.Sprintf("a statement runs under %s, its session has %s", op.Seen, current[op.Session]), op)
	}
}

// see: there is a version.
func (v *view) see(version int, op *Op) {
	if version > v.seen {
		v.seen, v.seenOp = version, op
	}
}

// bury: all up to a version are deleted.
func (v *view) bury(version int, op *Op) {
	if version > v.gone {
		v.gone, v.goneOp = version, op
	}
}

// deleted: what was there before the session's own delete is not there any more.
func (c *checker) deleted(s *secret, v *view, op *Op) {
	v.bury(v.seen, op)
	if highest := s.before[op]; highest != nil && !c.lost.covers(op) {
		v.bury(c.number(s, highest), op)
	}
}

func (c *checker) read(s *secret, v *view, op *Op) {
	version := c.number(s, op)
	switch {
	case op.Missing && op.Asked == 0:
		if v.seen > v.gone && !s.removals.possible(s.since[v.seen], op.End) {
			c.older(s, v.seenOp, op, fmt.Sprintf("nothing is there, but version %d was", v.seen))
			return
		}
		v.bury(v.seen, op)
	case op.Missing:
		if op.Asked <= v.seen && s.holders[op.Asked] != nil && s.kept && len(s.removals.begins) == 0 {
			c.older(s, v.seenOp, op, fmt.Sprintf("version %d is not there, though a session knows of %d", op.Asked, v.seen))
		}
		v.see(op.Version, op)
	case version == 0: // nobody knows which it is
	case version <= v.gone:
		c.older(s, v.goneOp, op, fmt.Sprintf("version %d is there, though all up to %d were deleted", version, v.gone))
	case op.Asked == 0 && version < v.seen:
		c.older(s, v.seenOp, op, fmt.Sprintf("version %d is the current one, but %d was there", version, v.seen))
	default:
		v.see(max(version, op.Version), op)
	}
}

// older: read shows a state before that which the session knows by known.
func (c *checker) older(s *secret, known, read *Op, text string) {
	promise := OwnWrite
	if known.Kind == Read {
		promise = BackInTime
	}
	c.violate(promise, s.name, text, known, read)
}
