// SPDX-License-Identifier: GPL-3.0-or-later

package history

import (
	"fmt"
	"slices"
)

// finals judges what is left in the end.
func (c *checker) finals() {
	for name, s := range c.secrets {
		final := c.final[name]
		lowest := 0 // of the readable versions
		for version := range final.Values {
			if lowest == 0 || version < lowest {
				lowest = version
			}
		}
		for _, op := range s.puts {
			if op.Outcome == OK {
				c.finalVersion(s, final, lowest, op)
			}
		}
		c.finalDeletes(s, lowest)
		c.finalDescription(s, final)
	}
}

// finalVersion judges that an acknowledged version is there, or that there is a
// reason why it is not: a deletion, a later version.
func (c *checker) finalVersion(s *secret, final Secret, lowest int, put *Op) {
	version := put.Version
	value, there := final.Values[version]
	switch {
	case there && value == put.Value:
	case c.lost.covers(put) && s.holders[version] != nil:
		c.judge(LostWrite, s.name, fmt.Sprintf("version %d was given again", version), put, s.holders[version])
	case there: // two values, or never put: judged where they are claimed
	case version > final.Current:
		c.judge(LostWrite, s.name, fmt.Sprintf("in the end the highest version ever given is %d", final.Current), put)
	case version == final.Current && !final.Deleted:
		c.judge(LostWrite, s.name, fmt.Sprintf("in the end version %d is current and cannot be read", version), put)
	case version < final.Current && !s.kept: // superseded, or deleted
	case lowest != 0 && version > lowest:
		c.judge(LostWrite, s.name, fmt.Sprintf("in the end version %d is not there, but the older %d is", version, lowest), put)
	case !s.removals.possible(put.Begin, never):
		c.judge(LostWrite, s.name, fmt.Sprintf("in the end version %d is not there, and nobody has deleted it", version), put)
	}
}

// finalDeletes judges that what was there before a delete is not there again. One
// tells enough.
func (c *checker) finalDeletes(s *secret, lowest int) {
	for _, op := range slices.Backward(s.deletes) {
		highest := s.before[op]
		if lowest == 0 || highest == nil || lowest > c.number(s, highest) {
			continue
		}
		c.judge(LostDelete, s.name, fmt.Sprintf("in the end version %d is there, though all up to %d were deleted", lowest, c.number(s, highest)), op, highest)
		if !c.lost.covers(op) {
			return
		}
	}
}
