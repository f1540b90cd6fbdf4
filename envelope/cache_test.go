// SPDX-License-Identifier: GPL-3.0-or-later

package envelope

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The cache by itself; what a Sealer makes of it is in flight_test.go.

func testKeys(i int) (id cacheKey, k keys) {
	id[0], id[1] = byte(i), byte(i>>8)
	for j := range k {
		k[j] = byte(i) | 0x80
	}
	return id, k
}

func newTestCache(t *testing.T, slots int) *cache {
	t.Helper()
	c, err := newCache(slots, time.Minute, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

func (c *cache) testPut(i int) {
	id, k := testKeys(i)
	c.put(&id, &k, time.Now())
}

func (c *cache) testGet(t *testing.T, i int) bool {
	t.Helper()
	id, want := testKeys(i)
	var got keys
	ok := c.get(&id, &got)
	if ok && got != want {
		t.Errorf("key %d: got %x", i, got)
	}
	if !ok && got != (keys{}) {
		t.Errorf("key %d: a miss wrote %x", i, got)
	}
	return ok
}

// live is the number of slots that hold bytes; each must be an entry's.
func (c *cache) live(t *testing.T) int {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for i := range c.arena.slots {
		if *c.arena.slot(int32(i)) != (keys{}) {
			n++
		}
	}
	listed, last := 0, none
	for i := c.oldest; i != none; i = c.entries[i].newer {
		if c.entries[i].older != last || c.index[c.entries[i].id] != i {
			t.Errorf("slot %d is not linked as it should be", i)
		}
		if last != none && c.entries[last].expires.After(c.entries[i].expires) {
			t.Errorf("slot %d stands before %d, which expires later", last, i)
		}
		last = i
		listed++
	}
	if n != len(c.index) || listed != n || c.newest != last || int(c.used)-len(c.free) != n {
		t.Errorf("%d slots hold bytes, %d are indexed, %d listed, %d used, %d free", n, len(c.index), listed, c.used, len(c.free))
	}
	return n
}

func TestCacheEvicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(t, 4)
		for i := range 4 {
			c.testPut(i)
		}
		c.testGet(t, 0)
		c.testGet(t, 2)
		c.testPut(4) // 0 is spared, 1 goes
		c.testPut(5) // 2 is spared, 3 goes
		var got []int
		for i := range 6 {
			if c.testGet(t, i) {
				got = append(got, i)
			}
		}
		if want := []int{0, 2, 4, 5}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if n := c.live(t); n != 4 {
			t.Errorf("got %d slots with bytes, want 4", n)
		}
		if bytes.IndexByte(c.arena.mem, 1|0x80) >= 0 || bytes.IndexByte(c.arena.mem, 3|0x80) >= 0 {
			t.Error("an evicted key is still in memory")
		}
	})
}

func TestCacheExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(t, 64)
		c.testPut(1)
		<-time.After(30 * time.Second)
		c.testPut(2)
		<-time.After(30 * time.Second)
		synctest.Wait()
		if c.testGet(t, 1) || !c.testGet(t, 2) {
			t.Error("after a minute the first key should be gone and the second not")
		}
		if n := c.live(t); n != 1 {
			t.Errorf("got %d slots with bytes, want 1: nobody asked, the sweep does it", n)
		}
		<-time.After(30 * time.Second)
		synctest.Wait()
		if n := c.live(t); n != 0 || c.sweeper != nil {
			t.Errorf("got %d slots with bytes, want 0 and no timer", n)
		}
		c.testPut(3)
		<-time.After(time.Minute + sweepPause)
		synctest.Wait()
		if n := c.live(t); n != 0 {
			t.Errorf("a key put after all had expired: got %d slots with bytes, want 0", n)
		}
	})
}

// While the machine is suspended only the calendar's clock goes on.
func TestCacheExpiresInSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(t, 64)
		c.testPut(1)
		c.testPut(2)
		id, _ := testKeys(1)
		c.entries[c.index[id]].wall -= int64(time.Hour)
		if c.testGet(t, 1) || !c.testGet(t, 2) {
			t.Error("the key whose time is over by the calendar should be gone, and the other not")
		}
		if n := c.live(t); n != 1 {
			t.Errorf("got %d slots with bytes, want 1", n)
		}
		id, _ = testKeys(2)
		c.mu.Lock() // there is a timer
		c.entries[c.index[id]].wall -= int64(time.Hour)
		c.mu.Unlock()
		<-time.After(sweepMost) // of the timer's own clock, which stood still
		synctest.Wait()
		if n := c.live(t); n != 0 {
			t.Errorf("got %d slots with bytes, want 0: nobody asked, the sweep does it", n)
		}
	})
}

// TestCacheUnwrapOrder: unwraps that overlap end in any order.
func TestCacheUnwrapOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(t, 64)
		begun := time.Now()
		<-time.After(10 * time.Second)
		for _, i := range []int{5, 2, 9, 1, 7, 2} {
			id, k := testKeys(i)
			c.put(&id, &k, begun.Add(time.Duration(i)*time.Second))
		}
		if n := c.live(t); n != 5 {
			t.Errorf("got %d, want 5", n)
		}
		id, k := testKeys(20)
		c.put(&id, &k, begun.Add(-time.Hour))
		if c.testGet(t, 20) {
			t.Error("a key that expired during its unwrap was kept")
		}
	})
}

func TestCacheFlushAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(t, 64)
		for i := range 100 {
			c.testPut(i)
		}
		c.flush()
		if n := c.live(t); n != 0 || bytes.ContainsFunc(c.arena.mem, func(r rune) bool { return r != 0 }) {
			t.Errorf("got %d slots with bytes after flush, want 0", n)
		}
		c.testPut(1)
		c.close()
		c.testPut(2)
		if c.testGet(t, 1) || c.testGet(t, 2) {
			t.Error("a closed cache answered")
		}
	})
}

// TestCacheAnyOrder compares the cache with what it was given, through a long
// random life.
func TestCacheAnyOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(t, 16)
		rnd := rand.New(rand.NewPCG(1, 2))
		put := make(map[int]time.Time)
		for range 5000 {
			switch i := rnd.IntN(40); rnd.IntN(4) {
			case 0:
				c.testPut(i)
				put[i] = time.Now()
			case 1:
				<-time.After(time.Duration(rnd.IntN(3)) * time.Second)
			default:
				if c.testGet(t, i) && time.Since(put[i]) >= time.Minute {
					t.Errorf("key %d answered after %v", i, time.Since(put[i]))
				}
			}
			if n := c.live(t); n > 16 {
				t.Fatalf("got %d entries, want at most 16", n)
			}
		}
	})
}

// TestFlightZeroes: the last who lets go of a flight zeroes its keys.
func TestFlightZeroes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newFlights(time.Minute, 1)
		_, want := testKeys(1)
		gate := make(chan struct{})
		j := &job{
			cached: func(*keys) bool { return false },
			unwrap: func(_ context.Context, k *keys) error { *k = want; <-gate; return nil },
			store:  func(*keys) {},
		}
		var held []*flight
		for range 2 {
			f, err := g.enter(t.Context(), j)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, f)
		}
		if held[0] != held[1] {
			t.Error("two flights for one key")
		}
		close(gate)
		<-held[0].done
		synctest.Wait()
		g.release(held[0])
		if held[1].keys != want {
			t.Error("zeroed while still held")
		}
		g.release(held[1])
		if held[0].keys != (keys{}) {
			t.Errorf("got %x after the last release, want zeroes", held[0].keys)
		}
		g.close()
	})
}

// TestFlightLandedJustNow: who missed in the cache before a flight landed and
// asks after that begins no second one.
func TestFlightLandedJustNow(t *testing.T) {
	g := newFlights(time.Minute, 1)
	defer g.close()
	_, want := testKeys(1)
	f, err := g.wait(t.Context(), &job{cached: func(k *keys) bool { *k = want; return true }})
	if err != nil || f.keys != want {
		t.Fatalf("got %v, want the keys", err)
	}
	g.release(f)
	if f.keys != (keys{}) {
		t.Error("not zeroed")
	}
}

// TestFailuresBounded: hostile records make a node remember only so much.
func TestFailuresBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newFlights(time.Minute, 1)
		for i := range maxFailures + 100 {
			id, _ := testKeys(i)
			j := &job{id: id, cached: func(*keys) bool { return false }, unwrap: func(context.Context, *keys) error { return ErrTampered }}
			if _, err := g.wait(t.Context(), j); !errors.Is(err, ErrTampered) {
				t.Fatal(err)
			}
		}
		if len(g.current) > maxFailures || len(g.failures) > maxFailures {
			t.Errorf("got %d remembered, want at most %d", len(g.current), maxFailures)
		}
		<-time.After(failureMemory)
		g.forgetFailures(time.Now())
		if len(g.current) != 0 || len(g.failures) != 0 {
			t.Errorf("got %d remembered after a second, want none", len(g.current))
		}
		g.close()
	})
}

// TestFlightsBounded: callers that leave at once leave only so many flights.
func TestFlightsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newFlights(time.Minute, 1)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		refused := 0
		for i := range maxFlights + 10 {
			id, _ := testKeys(i)
			_, err := g.wait(gone, &job{
				id: id, cached: func(*keys) bool { return false }, store: func(*keys) {},
				unwrap: func(ctx context.Context, _ *keys) error { <-ctx.Done(); return ctx.Err() },
			})
			if errors.Is(err, errCrowded) {
				refused++
			} else if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		if refused != 10 || len(g.running) != maxFlights {
			t.Errorf("got %d refused and %d flights, want 10 and %d", refused, len(g.running), maxFlights)
		}
		g.close()
		if len(g.running) != 0 {
			t.Errorf("got %d flights after close, want 0", len(g.running))
		}
	})
}
