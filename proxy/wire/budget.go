// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import (
	"errors"
	"sync/atomic"
)

// ErrNoRoom means that the Readers of one Budget together hold as much as they
// may.
var ErrNoRoom = errors.New("too much is held at once")

// A Budget bounds what the Readers that share it hold of unfinished messages,
// beyond the pooled buffer of each, and what else is charged to it. Nil bounds
// nothing. Safe for concurrent use.
type Budget struct{ max, used atomic.Int64 }

// SetMax sets the bound; what is held already stays.
func (b *Budget) SetMax(n int64) { b.max.Store(n) }

// Used is what is held now.
func (b *Budget) Used() int64 { return b.used.Load() }

// Take asks for n bytes more; false: there is no room. Whoever got them gives them
// back by Give.
func (b *Budget) Take(n int) bool {
	if b == nil {
		return true
	}
	if b.used.Add(int64(n)) > b.max.Load() {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

// Give gives back what Take gave.
func (b *Budget) Give(n int) {
	if b != nil {
		b.used.Add(-int64(n))
	}
}
