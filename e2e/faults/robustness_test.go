// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// What `make robustness` sets: ROBUSTNESS is for how long all of it goes, without
// it nothing is done; SEED decides which faults come, and what clients do;
// FAULT is the name of the only one, to look at it more often.
const (
	writers, readers = 50, 100
	// every is the time from one fault's beginning to the next one's, or longer if
	// that is not whole again.
	every = 20 * time.Second
)

// A kind of cluster, and what can be done to it.
type kind struct {
	name   string
	world  func(*testing.T) *world
	faults []fault
}

func kinds() []kind {
	everywhere := slices.Concat(failovers, nodeFaults, networkFaults[:4], []fault{{"paused replay", pausedReplay}})
	plain := slices.Concat(plainFaults, nodeFaults, networkFaults, []fault{{"crash", crash}, {"full log", fullLog}})
	patroni := slices.Concat(everywhere, patroniFaults)
	all := []kind{
		{"synchronous", func(t *testing.T) *world { return plainWorld(t, true, manyClients) }, plain},
		{"asynchronous", func(t *testing.T) *world { return plainWorld(t, false, manyClients) }, plain},
		{"patroni-synchronous", func(t *testing.T) *world { return patroniWorld(t, true, manyClients) }, patroni},
		{"patroni-asynchronous", func(t *testing.T) *world { return patroniWorld(t, false, manyClients) }, patroni},
	}
	if only := os.Getenv("FAULT"); only != "" {
		for i := range all {
			all[i].faults = slices.DeleteFunc(slices.Clone(all[i].faults), func(f fault) bool { return f.name != only })
		}
	}
	return all
}

// TestRobustness breaks each kind of cluster again and again, in an order that a
// seed decides, with many clients at work.
func TestRobustness(t *testing.T) {
	if os.Getenv("ROBUSTNESS") == "" {
		t.Skip("NOT TESTED: it goes on for as long as one likes; make robustness runs it")
	}
	cluster.NeedAlone(t)
	length, err := time.ParseDuration(os.Getenv("ROBUSTNESS"))
	if err != nil {
		t.Fatalf("ROBUSTNESS: %v", err)
	}
	seed := chosenSeed(t)
	t.Logf("seed: make robustness ROBUSTNESS=%v SEED=%d FAULT=%q", length, seed, os.Getenv("FAULT"))
	kinds := slices.DeleteFunc(kinds(), func(k kind) bool { return len(k.faults) == 0 })
	if len(kinds) == 0 {
		t.Fatalf("no fault %q", os.Getenv("FAULT"))
	}
	for i, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			w := k.world(t)
			w.clients, w.readers, w.pace = writers+readers, readers, 200*time.Millisecond
			w.again(t, k, length/time.Duration(len(kinds)), rand.New(rand.NewPCG(seed, uint64(i))))
		})
	}
}

func chosenSeed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("SEED")
	if text == "" {
		return uint64(time.Now().UnixNano())
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("SEED: %v", err)
	}
	return n
}

// again has one fault after the other while the same clients work, until the time
// is over, and judges what those have seen.
func (w *world) again(t *testing.T, k kind, length time.Duration, rng *rand.Rand) {
	t.Helper()
	w.begin(t, k.name, rng.Uint64())
	began := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := 1; time.Since(began) < length; i++ {
		f := k.faults[rng.IntN(len(k.faults))]
		from := time.Now()
		if !t.Run(fmt.Sprintf("%d %s", i, f.name), func(t *testing.T) { f.do(t, w) }) {
			return // what it has broken may be broken still
		}
		t.Logf("%4.0f of %.0f s: %s, fault %d, %s, took %v",
			time.Since(began).Seconds(), length.Seconds(), k.name, i, f.name, time.Since(from).Round(time.Millisecond))
		<-tick.C
	}
	w.judge(t)
	w.audited(t)
}
