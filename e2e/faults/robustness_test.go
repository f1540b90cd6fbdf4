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

// What `make robustness` sets: ROBUSTNESS=long, else there is nothing to do; ROUNDS
// faults for each kind of cluster; SEED decides which, and what clients do; FAULT
// is the name of the only one, to look at it more often.
const (
	defaultRounds = 25
	// A record is judged, and another begun, after so many faults: a judge has to
	// read all that was ever stored.
	perRecord = 5
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
	return []kind{
		{"synchronous", func(t *testing.T) *world { return plainWorld(t, true, manyClients) }, plain},
		{"asynchronous", func(t *testing.T) *world { return plainWorld(t, false, manyClients) }, plain},
		{"patroni-synchronous", func(t *testing.T) *world { return patroniWorld(t, true, manyClients) }, patroni},
		{"patroni-asynchronous", func(t *testing.T) *world { return patroniWorld(t, false, manyClients) }, patroni},
	}
}

// TestRobustness does many faults in an order that a seed decides, with 150 clients
// at work.
func TestRobustness(t *testing.T) {
	cluster.NeedAlone(t)
	if os.Getenv("ROBUSTNESS") != "long" {
		t.Log("nothing to do: see `make robustness`")
		return
	}
	rounds, seed := int(number(t, "ROUNDS", defaultRounds)), number(t, "SEED", uint64(time.Now().UnixNano()))
	t.Logf("seed: make robustness SEED=%d ROUNDS=%d", seed, rounds)
	for i, k := range kinds() {
		t.Run(k.name, func(t *testing.T) {
			w := k.world(t)
			w.clients, w.pace = 150, 200*time.Millisecond
			w.rounds(t, k, rounds, rand.New(rand.NewPCG(seed, uint64(i))))
		})
	}
}

// number is a variable of the environment.
func number(t *testing.T, name string, preset uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return preset
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func (w *world) rounds(t *testing.T, k kind, rounds int, rng *rand.Rand) {
	t.Helper()
	faults := slices.DeleteFunc(k.faults, func(f fault) bool { return os.Getenv("FAULT") != "" && os.Getenv("FAULT") != f.name })
	if len(faults) == 0 {
		t.Logf("no fault %q here", os.Getenv("FAULT"))
		return
	}
	began := time.Now()
	for i := 0; i < rounds; {
		w.begin(t, fmt.Sprintf("%s-%d", k.name, i), rng.Uint64())
		for n := min(perRecord, rounds-i); n > 0; n-- {
			i++
			f := faults[rng.IntN(len(faults))]
			from := time.Now()
			if !t.Run(fmt.Sprintf("%d %s", i, f.name), func(t *testing.T) { f.do(t, w) }) {
				return // what it has broken may be broken still
			}
			t.Logf("%6.0fs %s: fault %d of %d, %s, took %v", time.Since(began).Seconds(), k.name, i, rounds, f.name, time.Since(from).Round(time.Millisecond))
		}
		if w.judge(t); t.Failed() {
			return
		}
	}
}
