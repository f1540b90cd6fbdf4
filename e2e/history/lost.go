// SPDX-License-Identifier: GPL-3.0-or-later

package history

import (
	"math"
	"slices"
	"time"
)

// A Lost is a range of writes that a failover may have lost, as whoever knows
// the servers found it: those of a timeline whose commit lies behind Fork, where
// the next timeline left it, and which were under way between From and To. Zero
// values of Timeline and Fork say nothing; To = 0: until the record's end.
// Unconfirmed: only writes that were never acknowledged. A primary that waits for
// standbys in vain shows such a write when its client gives up, though it will
// never be anywhere else.
type Lost struct {
	From     time.Duration `json:"from"`
	To       time.Duration `json:"to,omitempty"`
	Timeline int           `json:"timeline,omitempty"`
	Fork     uint64        `json:"fork,omitempty"`

	Unconfirmed bool `json:"unconfirmed,omitempty"`
}

// losses answers whether a write may have been lost.
type losses struct {
	ranges []Lost
	// later are, by timeline, operations with a position, by Begin; lowest has
	// the lowest position among them from each on. What began later than a write
	// ended stands behind its commit.
	later  map[int][]*Op
	lowest map[int][]uint64
}

func newLosses(ops []*Op, ranges []Lost) *losses {
	l := &losses{ranges: ranges, later: map[int][]*Op{}, lowest: map[int][]uint64{}}
	if len(ranges) == 0 {
		return l
	}
	for _, op := range ops {
		if op.Outcome == OK && op.LSN != 0 {
			l.later[op.Timeline] = append(l.later[op.Timeline], op)
		}
	}
	for timeline, ops := range l.later {
		lowest, least := make([]uint64, len(ops)), uint64(math.MaxUint64)
		for i, op := range slices.Backward(ops) {
			least = min(least, op.LSN)
			lowest[i] = least
		}
		l.lowest[timeline] = lowest
	}
	return l
}

// covers: PostgreSQL may have lost this write.
func (l *losses) covers(op *Op) bool {
	return op != nil && slices.ContainsFunc(l.ranges, func(r Lost) bool {
		inTime := op.latest() >= r.From && (r.To == 0 || op.Begin <= r.To)
		sameTimeline := r.Timeline == 0 || op.Timeline == 0 || r.Timeline == op.Timeline
		mayBe := !r.Unconfirmed || op.Outcome == Unknown
		return mayBe && inTime && sameTimeline && (r.Fork == 0 || l.upTo(op) > r.Fork)
	})
}

// upTo is a position that the operation's commit does not lie behind.
func (l *losses) upTo(op *Op) uint64 {
	ops := l.later[op.Timeline]
	i, _ := slices.BinarySearchFunc(ops, op.End, func(o *Op, end time.Duration) int {
		if o.Begin > end {
			return 1
		}
		return -1
	})
	if op.Outcome == Unknown || i == len(ops) {
		return math.MaxUint64
	}
	return l.lowest[op.Timeline][i]
}
