// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"sync"
)

// turns has writers of one name come one after the other. Only the first of them
// has a connection on which it may wait for the name's lock: whoever holds that
// lock, and however many want it, other names are written meanwhile. The zero
// value is ready. Safe for concurrent use.
type turns struct {
	each int // how many have a turn of one name at once; 0: one
	mu   sync.Mutex
	by   map[string]*turn
}

// turn is guarded by the mutex of turns, but for the channel.
type turn struct {
	taken chan struct{}
	users int
}

// take waits for a name's turn; done ends it. The error is an *Error.
func (t *turns) take(ctx context.Context, name string) (done func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	done = t.wait(waiting, name)
	switch {
	case done != nil:
		return done, nil
	case errors.Is(context.Cause(ctx), context.Canceled):
		return nil, canceled(name, ctx.Err())
	}
	return nil, busy(name, nil)
}

// wait is take until ctx ends; nil: it has.
func (t *turns) wait(ctx context.Context, name string) (done func()) {
	mine := t.join(name)
	select {
	case mine.taken <- struct{}{}:
		return func() {
			<-mine.taken
			t.leave(name, mine)
		}
	case <-ctx.Done():
		t.leave(name, mine)
		return nil
	}
}

func (t *turns) join(name string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil {
		t.by = map[string]*turn{}
	}
	mine := t.by[name]
	if mine == nil {
		mine = &turn{taken: make(chan struct{}, max(t.each, 1))}
		t.by[name] = mine
	}
	mine.users++
	return mine
}

func (t *turns) leave(name string, mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.users--; mine.users == 0 {
		delete(t.by, name)
	}
}
