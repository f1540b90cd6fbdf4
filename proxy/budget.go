// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"net/netip"
	"sync"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/lobby"
)

// A budget bounds how often each client address may fail at something. A try is
// paid for before it is made and the price given back when it succeeds, so that
// many at once are no cheaper than one after the other, and whoever succeeds pays
// nothing.
type budget struct {
	strangersRate float64 // a second, of all addresses that never succeeded; 0: no such bound

	mu        sync.Mutex
	buckets   map[netip.Addr]*bucket
	overflow  bucket // of all for whom the table has no room
	strangers bucket
	swept     time.Time
}

// A bucket counts what was spent and has not come back yet. Beyond the burst it
// is in debt: until that is paid off the next try has to wait.
type bucket struct {
	spent float64   // 0: the whole burst may be spent
	at    time.Time // when spent was right
	good  time.Time // when a try last succeeded
}

const (
	// maxBuckets bounds the memory: some 100 bytes each.
	maxBuckets = 1 << 16
	// burstSeconds is how many seconds' worth may be spent at once.
	burstSeconds = 10
	// goodFor is how long an address that succeeded is not a stranger.
	goodFor = time.Hour
	// sweepEvery bounds how often a full table is searched for room.
	sweepEvery = time.Second
)

func newBudget(strangersRate float64) *budget {
	return &budget{strangersRate: strangersRate, buckets: map[netip.Addr]*bucket{}}
}

// settle brings spent up to now.
func (b *bucket) settle(rate float64, now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		b.spent = max(0, b.spent-d.Seconds()*rate)
		b.at = now
	}
}

// take spends one and says how long to wait for it.
func (b *bucket) take(rate float64, now time.Time) time.Duration {
	b.settle(rate, now)
	b.spent++
	return time.Duration(max(0, b.spent-rate*burstSeconds) / rate * float64(time.Second))
}

func (b *bucket) refund() { b.spent = max(0, b.spent-1) }

// A payment is one try that has been paid for.
type payment struct {
	from *budget
	of   *bucket
	all  *bucket // nil: not a stranger
	wait time.Duration
}

// pay takes the price of one try of an address that may fail rate times a
// second. The try is to be made after payment.wait.
func (b *budget) pay(addr netip.Addr, rate float64, now time.Time) payment {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := payment{from: b, of: b.bucket(lobby.Key(addr), rate, now)}
	p.wait = p.of.take(rate, now)
	if b.strangersRate > 0 && now.Sub(p.of.good) > goodFor {
		p.all = &b.strangers
		p.wait = max(p.wait, p.all.take(b.strangersRate, now))
	}
	return p
}

// bucket finds an address's bucket. mu is held.
func (b *budget) bucket(addr netip.Addr, rate float64, now time.Time) *bucket {
	if found := b.buckets[addr]; found != nil {
		return found
	}
	if len(b.buckets) >= maxBuckets && now.Sub(b.swept) >= sweepEvery {
		b.swept = now
		for a, old := range b.buckets {
			if old.settle(rate, now); old.spent == 0 && now.Sub(old.good) > goodFor {
				delete(b.buckets, a)
			}
		}
	}
	if len(b.buckets) >= maxBuckets {
		return &b.overflow
	}
	fresh := &bucket{at: now}
	b.buckets[addr] = fresh
	return fresh
}

// giveBack returns the price: the try was not made, or nobody is to blame.
func (p payment) giveBack() {
	p.from.mu.Lock()
	defer p.from.mu.Unlock()
	p.of.refund()
	if p.all != nil {
		p.all.refund()
	}
}

// succeeded returns the price and remembers that this address means well.
func (p payment) succeeded(now time.Time) {
	p.giveBack()
	p.from.mu.Lock()
	p.of.good = now
	p.from.mu.Unlock()
}
