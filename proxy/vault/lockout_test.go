// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"time"
)

func network(text string) netip.Prefix { return networkOf(netip.MustParseAddr(text)) }

func TestNetworkOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32", "2001:db8::1:2:3:4": "2001:db8::/64", "2001:db8:0:1::": "2001:db8:0:1::/64",
		"fe80::1%eth0": "fe80::/64", "::1": "::/64",
	} {
		if got := network(addr).String(); got != want {
			t.Errorf("%s: got %s, want %s", addr, got, want)
		}
	}
}

func TestLockouts(t *testing.T) {
	l := newLockouts(3, 5*time.Minute, 15*time.Minute)
	a, now := network("192.0.2.7"), time.Unix(1e9, 0)
	miss := func(n netip.Prefix, wantLeft time.Duration, wantBegan bool) {
		t.Helper()
		if left, began := l.miss(n, now); max(left, 0) != wantLeft || began != wantBegan {
			t.Errorf("got %v, %v, want %v, %v", left, began, wantLeft, wantBegan)
		}
	}
	miss(a, 0, false)
	miss(a, 0, false)
	miss(a, 0, true) // the last one that hears that it is unknown
	miss(a, 15*time.Minute, false)
	miss(network("192.0.2.8"), 0, false)
	now = now.Add(14 * time.Minute) // failures of a locked one make it no longer
	miss(a, time.Minute, false)
	now = now.Add(time.Minute)
	miss(a, 0, false) // counts anew
	miss(a, 0, false)
	now = now.Add(5 * time.Minute)
	miss(a, 0, false) // a new window
	miss(a, 0, false)
	miss(a, 0, true)

	// Another node's.
	b := network("2001:db8::1")
	l.learn(b, time.Minute, now)
	miss(network("2001:db8::ffff"), time.Minute, false)
	l.learn(b, time.Second, now) // what ends sooner is known already
	miss(b, time.Minute, false)
	now = now.Add(time.Minute)
	miss(b, 0, false)

	l.set(3, 5*time.Minute, 0)
	for range 10 {
		miss(a, 0, false)
	}
	l.learn(a, time.Hour, now)
	miss(a, 0, false)
	l.set(2, time.Hour, time.Second)
	for range 2 { // a lock that is shorter than the window begins it anew
		miss(a, 0, false)
		miss(a, 0, true)
		miss(a, time.Second, false)
		now = now.Add(time.Second)
	}
}

// The count does not depend on how many come at once, and one lock begins once.
func TestLockoutsAtOnce(t *testing.T) {
	l := newLockouts(5, time.Minute, time.Hour)
	now := time.Unix(1e9, 0)
	var mu sync.Mutex
	var wg sync.WaitGroup
	free, locks := 0, 0
	for range 200 {
		wg.Go(func() {
			left, began := l.miss(network("192.0.2.7"), now)
			mu.Lock()
			defer mu.Unlock()
			if left <= 0 {
				free++
			}
			if began {
				locks++
			}
		})
	}
	if wg.Wait(); free != 5 || locks != 1 {
		t.Errorf("%d were not locked, %d locks began; want 5 and 1", free, locks)
	}
}

// Memory is bounded, and nobody gets rid of his own failures, or of a lock, by
// failing from thousands of other networks.
func TestLockoutsAreBounded(t *testing.T) {
	l := newLockouts(5, time.Hour, time.Hour)
	now := time.Unix(1e9, 0)
	locked, near := network("192.0.2.7"), network("192.0.2.8")
	for range 5 {
		l.miss(locked, now)
	}
	for range 4 {
		l.miss(near, now)
	}
	for i := range 4 * maxLockoutEntries {
		var addr [16]byte
		addr[0] = 0x20
		binary.BigEndian.PutUint32(addr[4:], uint32(i))
		l.miss(networkOf(netip.AddrFrom16(addr)), now)
	}
	if len(l.by) > maxLockoutEntries {
		t.Errorf("%d entries, want at most %d", len(l.by), maxLockoutEntries)
	}
	if left, _ := l.miss(locked, now); left <= 0 {
		t.Error("a lock was forgotten")
	}
	if _, began := l.miss(near, now); !began {
		t.Error("failures were forgotten")
	}
}

// What is over goes before what is not.
func TestLockoutsForgetWhatIsOver(t *testing.T) {
	l := newLockouts(5, time.Minute, time.Hour)
	now := time.Unix(1e9, 0)
	for want, f := range map[string]failures{
		"over":    {n: 5, since: now.Add(-3 * time.Hour), until: now.Add(-time.Second)},
		"past":    {n: 4, since: now.Add(-time.Minute)},
		"counted": {n: 4, since: now.Add(-time.Second)},
		"locked":  {n: 5, since: now, until: now.Add(time.Second)},
	} {
		w := l.weight(f, now)
		if (w == 0) != (want == "over" || want == "past") {
			t.Errorf("%s: weight %v", want, w)
		}
		if (w > 1000) != (want == "locked") {
			t.Errorf("%s: weight %v", want, w)
		}
	}
}

func TestAtLeast(t *testing.T) {
	for version, want := range map[string]bool{"1.4": true, "1.10": true, "1.3": false, "1.0": false, "": false, "2.5": false, "1.x": false} {
		if got := (Status{ExtensionVersion: version}).AtLeast(4); got != want {
			t.Errorf("%q: got %v", version, got)
		}
	}
}
