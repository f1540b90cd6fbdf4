// SPDX-License-Identifier: GPL-3.0-or-later

package envelope

import (
	"context"
	"errors"
	"fmt"
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
	// maxFlights bounds what callers that come and leave can have waiting; the
	// KMS calls themselves are bounded by Config.MaxInflight.
	maxFlights = 4096
)

var errCrowded = &KMSError{Kind: KMSThrottled, Err: errors.New("too many unwraps wait for their turn on this node")}

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

// job is what a flight is for. Its functions are called inside erase.Do.
type job struct {
	id cacheKey
	// cached looks once more, under the lock under which store is called, so
	// that a caller that comes just after a flight begins no second one.
	cached func(*keys) bool
	unwrap func(context.Context, *keys) error // on a goroutine of the flight's own
	store  func(*keys)                        // not called if it failed or was forgotten
}

// wait joins the flight for a job or begins one, and waits for its end or ctx's.
// The caller reads the flight's keys and then releases it.
func (g *flights) wait(ctx context.Context, j *job) (*flight, error) {
	f, err := g.enter(ctx, j)
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

// enter adds a reference to the job's flight, which is made if there is none.
func (g *flights) enter(ctx context.Context, j *job) (*flight, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, ErrClosed
	}
	g.forgetFailures(time.Now())
	if f := g.current[j.id]; f != nil {
		f.refs++
		return f, nil
	}
	f := &flight{done: make(chan struct{}), refs: 1}
	landed := false
	erase.Do(func() { landed = j.cached(&f.keys) })
	if landed {
		close(f.done)
		return f, nil
	}
	if len(g.running) >= maxFlights {
		return nil, errCrowded
	}
	var own context.Context
	own, f.cancel = context.WithTimeout(context.WithoutCancel(ctx), g.timeout)
	g.current[j.id] = f
	g.running[f] = struct{}{}
	g.ended.Add(1)
	f.refs++ // its own
	go g.run(own, f, j)
	return f, nil
}

// recovered makes an error of a panic, which on a flight's own goroutine would end the
// process. What it is about is not told: it may be bytes of a key.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the KMS's answer led to a panic of type %T", p)
	}
}

func (g *flights) run(ctx context.Context, f *flight, j *job) {
	defer g.ended.Done()
	erase.Do(func() {
		f.err = g.call(ctx, func() (err error) {
			defer recovered(&err)
			return j.unwrap(ctx, &f.keys)
		})
		g.land(f, j)
	})
	f.cancel()
	g.release(f)
}

// land ends a flight. It stores under the lock: a flush that comes before finds
// the flight and makes it forgotten, one that comes after finds what it stored.
func (g *flights) land(f *flight, j *job) {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(f.done)
	delete(g.running, f)
	if g.current[j.id] != f {
		return
	}
	switch {
	case f.err == nil:
		j.store(&f.keys)
		delete(g.current, j.id)
	case len(g.failures) >= maxFailures:
		delete(g.current, j.id)
	default:
		f.failed = time.Now()
		g.failures = append(g.failures, j.id)
	}
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
