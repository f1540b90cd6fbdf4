// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// maxMissEntries bounds the limiter's memory; an entry is some 200 bytes.
	maxMissEntries = 8192

	// evictSamples is among how many random entries the fullest bucket is
	// sought when the limiter is full.
	evictSamples = 32
)

// missKey is whose misses are counted, on which secret.
type missKey struct{ role, secret string }

// tryWait is how long a try waits for others to end.
const tryWait = 5 * time.Second

// missLimiter bounds wrong guesses of verify: each key has a bucket of max
// misses that fills up again within the window. A try in progress takes a miss's
// place until it ends, so that many at once get no more guesses than one after
// the other; who finds no place for that reason alone waits. Safe for concurrent
// use.
type missLimiter struct {
	mu      sync.Mutex
	limit   rate.Limit
	max     int
	buckets map[missKey]*missBucket
}

// missBucket is guarded by the limiter's mutex.
type missBucket struct {
	misses *rate.Limiter
	tries  int           // begun and not ended
	ended  chan struct{} // closed when one of them ends; nil: nobody waits
}

// left is how many misses are still free, tries in progress taken as such.
func (b *missBucket) left(now time.Time) float64 { return b.misses.TokensAt(now) - float64(b.tries) }

func newMissLimiter(most int, window time.Duration) *missLimiter {
	return &missLimiter{
		limit: rate.Limit(float64(most) / window.Seconds()), max: most,
		buckets: make(map[missKey]*missBucket),
	}
}

// set changes the rule, for the buckets that are there as well.
func (l *missLimiter) set(most int, window time.Duration, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.max, l.limit = most, rate.Limit(float64(most)/window.Seconds())
	for _, b := range l.buckets {
		b.misses.SetLimitAt(now, l.limit)
		b.misses.SetBurstAt(now, l.max)
	}
}

// missTry is one verify in progress; end it.
type missTry struct {
	l *missLimiter
	b *missBucket
}

// enter starts a try, as soon as others leave a place for it, or refuses it.
func (l *missLimiter) enter(ctx context.Context, k missKey) (missTry, *Error) {
	try, ended, refused := l.begin(k, time.Now())
	if ended == nil {
		return try, refused
	}
	timer := time.NewTimer(tryWait)
	defer timer.Stop()
	for ended != nil {
		select {
		case <-ended:
		case <-timer.C:
			return missTry{}, &Error{Kind: KindBusy, Msg: "others are verifying this secret", Hint: "Try again in a moment."}
		case <-ctx.Done():
			return missTry{}, canceled(k.secret, ctx.Err())
		}
		try, ended, refused = l.begin(k, time.Now())
	}
	return try, refused
}

// begin starts a try. One that has too many misses before it is refused with an *Error
// of KindLimited; if there are none but tries in progress ended is closed when one ends.
func (l *missLimiter) begin(k missKey, now time.Time) (try missTry, ended <-chan struct{}, refused *Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[k]
	if b == nil {
		if len(l.buckets) >= maxMissEntries {
			l.evict(now)
		}
		b = &missBucket{misses: rate.NewLimiter(l.limit, l.max)}
		l.buckets[k] = b
	}
	if b.left(now) < 1 {
		free := b.misses.TokensAt(now)
		if free >= 1 {
			if b.ended == nil {
				b.ended = make(chan struct{})
			}
			return missTry{}, b.ended, nil
		}
		wait := math.Ceil((1 - free) / float64(l.limit))
		return missTry{}, nil, &Error{
			Kind: KindLimited, Msg: "too many wrong values were verified against this secret",
			Detail: fmt.Sprintf("At most %d for each role and secret; the count goes down with time.", l.max),
			Hint:   fmt.Sprintf("Try again in %.0f seconds.", max(wait, 1)),
			Wait:   time.Duration(max(wait, 1)) * time.Second,
		}
	}
	b.tries++
	return missTry{l: l, b: b}, nil, nil
}

// end finishes a try.
func (t missTry) end(missed bool, now time.Time) {
	t.l.mu.Lock()
	defer t.l.mu.Unlock()
	t.b.tries--
	if t.b.ended != nil {
		close(t.b.ended)
		t.b.ended = nil
	}
	if missed {
		t.b.misses.AllowN(now, 1) // begin made sure of it
	}
}

// evict makes room: of some random entries without a try in progress the one
// with the fewest misses goes. To get rid of his own, somebody would have to
// miss on thousands of other secrets.
func (l *missLimiter) evict(now time.Time) {
	var victim missKey
	best, seen := math.Inf(-1), 0
	for k, b := range l.buckets {
		if left := b.left(now); b.tries == 0 && left > best {
			victim, best = k, left
		}
		if seen++; seen >= evictSamples && !math.IsInf(best, -1) {
			break
		}
	}
	delete(l.buckets, victim) // nothing, if all are being tried: bounded by the sessions then
}
