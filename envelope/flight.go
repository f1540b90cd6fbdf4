// SPDX-License-Identifier: GPL-3.0-or-later

package envelope

import (
	"context"
	"sync"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
)

const (
	// failureMemory: how long a failed unwrap is answered from memory, so that a
	// broken key or a KMS that is away is not asked once per row.
	failureMemory = time.Second
	// maxFailures bounds what hostile records can make a node remember.
	maxFailures = 4096
)

// flight is one unwrap in progress, or one that failed a moment ago.
type flight struct {
	done chan struct{} // closed when keys and err are set
	keys keys          // valid after done, until the last reference goes
	err  error
	// Guarded by flights.mu:
	refs   int
	cancel context.CancelFunc
	failed time.Time // when it failed; zero before
}

// flights runs at most one unwrap per key at a time. A flight has its own
// deadline: it goes on when the caller that began it leaves, and ends whatever
// that caller's deadline is. x/sync/singleflight knows neither references (the
// last reader zeroes) nor remembered failures. Safe for concurrent use.
type flights struct {
	timeout time.Duration
	slots   chan struct{} // one token per KMS call in progress, of any kind

	mu       sync.Mutex
	current  map[cacheKey]*flight
	failures []cacheKey // in the order of their times
	running  map[*flight]struct{}
	closed   bool
	ended    sync.WaitGroup
}

func newFlights(timeout time.Duration, inflight int) *flights {
	return &flights{
		timeout: timeout,
		slots:   make(chan struct{}, inflight),
		current: make(map[cacheKey]*flight),
		running: make(map[*flight]struct{}),
	}
}

// call waits for a token and makes one KMS call with it.
func (g *flights) call(ctx context.Context, f func() error) error {
	select {
	case g.slots <- struct{}{}:
	case <-ctx.Done():
		return &KMSError{Kind: KMSUnavailable, Err: ctx.Err()}
	}
	defer func() { <-g.slots }()
	return f()
}

// wait joins the flight for id, or begins one with unwrap, and waits for its end
// or ctx's. It returns the flight, whose keys the caller reads and then releases.
// unwrap runs inside erase.Do on a goroutine of its own; stored is called there
// with the flight's keys unless it failed or was forgotten meanwhile.
func (g *flights) wait(ctx context.Context, id cacheKey, unwrap func(context.Context, *keys) error, stored func(*keys)) (*flight, error) {
	f, err := g.enter(ctx, id, unwrap, stored)
	if err != nil {
		return nil, err
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		g.release(f)
		return nil, ctx.Err()
	}
	if f.err != nil {
		g.release(f)
		return nil, f.err
	}
	return f, nil
}

// enter adds a reference to id's flight, which is made if there is none.
func (g *flights) enter(ctx context.Context, id cacheKey, unwrap func(context.Context, *keys) error, stored func(*keys)) (*flight, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, ErrClosed
	}
	g.forgetFailures(time.Now())
	f := g.current[id]
	if f == nil {
		f = &flight{done: make(chan struct{}), refs: 1}
		var own context.Context
		own, f.cancel = context.WithTimeout(context.WithoutCancel(ctx), g.timeout)
		g.current[id] = f
		g.running[f] = struct{}{}
		g.ended.Add(1)
		go g.run(own, f, id, unwrap, stored)
	}
	f.refs++
	return f, nil
}

func (g *flights) run(ctx context.Context, f *flight, id cacheKey, unwrap func(context.Context, *keys) error, stored func(*keys)) {
	defer g.ended.Done()
	erase.Do(func() {
		f.err = g.call(ctx, func() error { return unwrap(ctx, &f.keys) })
		g.land(f, id, stored)
	})
	f.cancel()
	g.release(f)
}

// land ends a flight. It stores under the lock: a flush that comes before finds
// the flight and makes it forgotten, one that comes after finds what it stored.
func (g *flights) land(f *flight, id cacheKey, stored func(*keys)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(f.done)
	delete(g.running, f)
	if g.current[id] != f {
		return
	}
	if f.err == nil {
		stored(&f.keys)
		delete(g.current, id)
		return
	}
	if len(g.failures) >= maxFailures {
		delete(g.current, id)
		return
	}
	f.failed = time.Now()
	g.failures = append(g.failures, id)
}

// forgetFailures drops the failures that are no longer to be remembered.
func (g *flights) forgetFailures(now time.Time) {
	n := 0
	for _, id := range g.failures {
		if now.Sub(g.current[id].failed) < failureMemory {
			break
		}
		delete(g.current, id)
		n++
	}
	g.failures = g.failures[n:]
}

// release gives up a reference; the last one zeroes the keys.
func (g *flights) release(f *flight) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.refs--; f.refs == 0 {
		f.keys.zero()
	}
}

// forget makes later callers begin anew: those waiting get their answer, but it
// is not stored.
func (g *flights) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.current)
	g.failures = nil
}

// close ends all flights and waits until no KMS call of theirs is left.
func (g *flights) close() {
	g.mu.Lock()
	g.closed = true
	clear(g.current)
	g.failures = nil
	for f := range g.running {
		f.cancel()
	}
	g.mu.Unlock()
	g.ended.Wait()
}
