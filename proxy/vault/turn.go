// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"sync"
	"time"
)

// turns has writers of one name come one after the other. Only the first of them
// has a connection on which it may wait for the name's lock: whoever holds that
// lock, and however many want it, other names are written meanwhile. The zero
// value is ready. Safe for concurrent use.
type turns struct {
	mu sync.Mutex
	by map[string]*turn
}

// turn is guarded by the mutex of turns, but for the channel.
type turn struct {
	taken chan struct{}
	users int
}

// take waits for a name's turn; done ends it. The error is an *Error.
func (t *turns) take(ctx context.Context, name string) (done func(), err error) {
	mine := t.join(name)
	timer := time.NewTimer(writeLimit)
	defer timer.Stop()
	select {
	case mine.taken <- struct{}{}:
		return func() {
			<-mine.taken
			t.leave(name, mine)
		}, nil
	case <-timer.C:
	case <-ctx.Done():
	}
	t.leave(name, mine)
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return nil, canceled(name, ctx.Err())
	}
	return nil, busy(name, nil)
}

func (t *turns) join(name string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil {
		t.by = map[string]*turn{}
	}
	mine := t.by[name]
	if mine == nil {
		mine = &turn{taken: make(chan struct{}, 1)}
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
