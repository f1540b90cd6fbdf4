// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"context"
	"sync"
	"time"
)

// A bound is a context that ends at a time, with its parent, or when it is ended. What
// wakes those who wait is made for the first who asks: to make it costs more than all
// else that is done here for a request, and most are answered without.
type bound struct {
	parent context.Context //nolint:containedctx // it is a context
	until  time.Time

	mu     sync.Mutex
	made   context.Context //nolint:containedctx // nil: nobody has asked
	cancel context.CancelFunc
	ended  bool
}

// Deadline implements [context.Context].
func (b *bound) Deadline() (time.Time, bool) {
	if at, ok := b.parent.Deadline(); ok && at.Before(b.until) {
		return at, true
	}
	return b.until, true
}

// Done implements [context.Context].
func (b *bound) Done() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.made == nil {
		b.made, b.cancel = context.WithDeadline(b.parent, b.until)
		if b.ended {
			b.cancel()
		}
	}
	return b.made.Done()
}

// Err implements [context.Context].
func (b *bound) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.made != nil:
		return b.made.Err()
	case b.parent.Err() != nil:
		return b.parent.Err()
	case b.ended:
		return context.Canceled
	case !time.Now().Before(b.until):
		return context.DeadlineExceeded
	}
	return nil
}

// Value implements [context.Context]. Package context asks by it for what has made
// Done's channel.
func (b *bound) Value(key any) any {
	b.mu.Lock()
	from := b.parent
	if b.made != nil {
		from = b.made
	}
	b.mu.Unlock()
	return from.Value(key)
}

func (b *bound) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended = true; b.cancel != nil {
		b.cancel()
	}
}
