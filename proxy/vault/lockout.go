// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/time/rate"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

const (
	// maxLockoutEntries bounds the memory for addresses; an entry is some 200 bytes.
	maxLockoutEntries = 8192

	// What other nodes are told, in the background: one lock after the other, so many
	// a second, and no more than wait then. Whoever has addresses in plenty makes a
	// node write no more than that.
	locksPerSecond = 5
	locksAtOnce    = 20
	maxLocksToTell = 64
)

// networkOf is whom failures are counted for: an address, of IPv6 its network, in
// which a client has as many addresses as it likes.
func networkOf(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(addr, bits).Masked()
}

// lockouts counts unknown tokens by network and locks those that send too many. Safe
// for concurrent use.
type lockouts struct {
	mu           sync.Mutex
	most         int           // in a window
	window, lock time.Duration // lock 0: nobody is locked
	by           map[netip.Prefix]failures
}

// failures of one network: n since a time, or locked until one.
type failures struct {
	n            int
	since, until time.Time
}

func newLockouts(most int, window, lock time.Duration) *lockouts {
	return &lockouts{most: most, window: window, lock: lock, by: map[netip.Prefix]failures{}}
}

// set changes the rule; who is locked stays so, unless nobody is to be.
func (l *lockouts) set(most int, window, lock time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most, l.window, l.lock = most, window, lock
	if lock == 0 {
		clear(l.by)
	}
}

// miss counts an unknown token. left: the network was locked before, for so long
// still. began: with this one a lock begins.
func (l *lockouts) miss(network netip.Prefix, now time.Time) (left time.Duration, began bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lock == 0 {
		return 0, false
	}
	f := l.by[network]
	if left = f.until.Sub(now); left > 0 {
		return left, false
	}
	if !f.until.IsZero() || now.Sub(f.since) >= l.window {
		f = failures{since: now}
	}
	if f.n++; f.n >= l.most {
		f.until, began = now.Add(l.lock), true
	}
	l.store(network, f, now)
	return 0, began
}

// learn takes over a lock of another node's.
func (l *lockouts) learn(network netip.Prefix, left time.Duration, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.by[network]; l.lock > 0 && f.until.Before(now.Add(left)) {
		f.until = now.Add(left)
		l.store(network, f, now)
	}
}

func (l *lockouts) store(network netip.Prefix, f failures, now time.Time) {
	if _, known := l.by[network]; !known && len(l.by) >= maxLockoutEntries {
		l.evict(now)
	}
	l.by[network] = f
}

// evict makes room: of some random entries the one goes that means least. To get rid
// of one's own, one would have to fail from thousands of other networks as often.
func (l *lockouts) evict(now time.Time) {
	var victim netip.Prefix
	least, seen := math.Inf(1), 0
	for network, f := range l.by {
		if w := l.weight(f, now); w < least {
			victim, least = network, w
		}
		if seen++; seen >= evictSamples {
			break
		}
	}
	delete(l.by, victim)
}

// weight: what is over has none, a lock more than any count, by what is left of it.
func (l *lockouts) weight(f failures, now time.Time) float64 {
	switch left := f.until.Sub(now); {
	case left > 0:
		return float64(math.MaxInt32) + left.Seconds()
	case !f.until.IsZero() || now.Sub(f.since) >= l.window:
		return 0
	}
	return float64(f.n)
}

// lockoutsShared says whether the extension has what nodes tell each other locks by.
func (v *Vault) lockoutsShared() bool { return v.Health().Status.AtLeast(4) }

// unknownToken counts one that nobody bears, and refuses it: in another way from a
// locked network. left is what the local server has of a lock, another node's.
func (v *Vault) unknownToken(ctx context.Context, a *Access, left time.Duration) error {
	now, network := time.Now(), networkOf(a.Addr)
	if left > 0 {
		v.lockouts.learn(network, left, now)
	}
	left, began := v.lockouts.miss(network, now)
	if began {
		v.metrics.lockouts.Inc()
		v.log.WarnContext(ctx, "a client is locked: too many unknown tokens", "client", network.String())
		select {
		case v.locksToTell <- network:
		default: // best effort
		}
	}
	if left <= 0 {
		v.NoteLogin(ctx, a.Actor, audit.OutcomeDenied, KindUnknown.String())
		return notKnown()
	}
	wait := time.Duration(math.Ceil(left.Seconds())) * time.Second
	return v.refuse(ctx, a, audit.ActionLogin, "", &Error{
		Kind: KindLimited, Msg: "too many unknown tokens came from this address", Wait: wait,
		Hint: fmt.Sprintf("A valid one is let in at any time; others may be sent again in %.0f seconds.", wait.Seconds()),
	})
}

// tellLocks tells other nodes of this one's locks, by way of the primary, until ctx
// ends. Nobody waits for it.
func (v *Vault) tellLocks(ctx context.Context) {
	limit := rate.NewLimiter(locksPerSecond, locksAtOnce)
	for {
		select {
		case network := <-v.locksToTell:
			if limit.Wait(ctx) == nil && v.lockoutsShared() {
				v.tellLock(ctx, network)
			}
		case <-ctx.Done():
			return
		}
	}
}

const sqlLock = `SELECT vault.lockout($1, $2)`

func (v *Vault) tellLock(ctx context.Context, network netip.Prefix) {
	left := v.lockouts.left(network, time.Now())
	if left <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := v.byItself(ctx, "", func(ctx context.Context, tx pgx.Tx) error {
		var secs int
		_, err := v.one(ctx, tx, []any{&secs}, sqlLock, network.String(), int(math.Ceil(left.Seconds())))
		return err
	})
	if err != nil {
		v.log.LogAttrs(ctx, levelOf(err), "other nodes were not told of a locked client", errAttrs(err)...)
	}
}

// left is for how long a network is locked still.
func (l *lockouts) left(network netip.Prefix, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.by[network].until.Sub(now)
}
