// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestCalm(t *testing.T) {
	var c calm
	for i, step := range []struct {
		allocated uint64
		begins    bool
	}{
		{10 << 20, false},
		{30 << 20, false},
		{30<<20 + 1000, true},
		{30<<20 + 2000, false}, // still calm: nothing to be freed again
		{39 << 20, false},
		{39 << 20, true},
	} {
		if got := c.begins(step.allocated); got != step.begins {
			t.Errorf("step %d: %v, want %v", i, got, step.begins)
		}
	}
}

func TestProcessors(t *testing.T) {
	if newProcessors([]string{"A=b", "GOMAXPROCS=3"}, 8) != nil {
		t.Error("GOMAXPROCS in the environment counts for nothing")
	}
	for n, want := range map[int]int{1: 1, 2: 2, 3: 2, 4: 2, 16: 8} {
		if got := newProcessors(nil, n).most; got != want {
			t.Errorf("%d of %d processors, want %d", got, n, want)
		}
	}
	p := newProcessors(nil, 6)
	var had []int
	look := func(used float64, times int) {
		for range times {
			p.next(used, false)
		}
		had = append(had, p.has)
	}
	look(0.8, 10*fullLooks) // one is enough
	look(1, fullLooks-1)    // not any more, but for not long enough
	look(0.5, 1)
	look(1, fullLooks-1)
	look(1, 1)
	look(1.9, fullLooks)    // nor are two
	look(3, 10*fullLooks)   // but half of them is the most
	look(1.5, spareLooks-1) // two would be enough, for not long enough
	look(1.7, 1)            // and are not
	look(1.5, spareLooks)   // now they are
	look(0.7, spareLooks)   // and one
	look(0, 10*spareLooks)  // there is always one
	if want := []int{1, 1, 1, 1, 2, 3, 3, 3, 3, 2, 1, 1}; !slices.Equal(had, want) {
		t.Errorf("processors %v, want %v", had, want)
	}

	p, had = newProcessors(nil, 6), nil
	late := func(times int) {
		for range times {
			p.next(0.1, true)
		}
		had = append(had, p.has)
	}
	late(fullLooks - 1) // turns come late, for not long enough
	look(0.1, 1)
	late(fullLooks - 1)
	late(1)
	look(0.1, lateLooks-1)
	look(0.1, 1)
	late(fullLooks)
	look(1, 1) // what is used says nothing of that
	look(0.1, lateLooks-1)
	late(2 * fullLooks) // two have to do
	look(0.1, lateLooks-1)
	look(0.1, 1)
	if want := []int{1, 1, 1, 2, 2, 1, 2, 2, 2, 2, 2, 1}; !slices.Equal(had, want) {
		t.Errorf("processors %v, want %v", had, want)
	}
}

// TestTurns: who waits for one processor while others have it in turn.
func TestTurns(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	turns := newTurns()
	var all sync.WaitGroup
	for range 512 {
		all.Go(func() {
			for begun := time.Now(); time.Since(begun) < lateAfter/40; {
			}
		})
	}
	all.Wait()
	if !turns.late() {
		t.Error("nobody has waited for long")
	}
	if turns.late() {
		t.Error("the same wait counts twice")
	}
}
