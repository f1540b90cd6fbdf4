// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"flag"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var timing = flag.Int("timing", 0, "calls of Match that TestMatchTiming measures; 0: none")

// TestMatchTiming: how long Match itself takes, before any answer waits, does not tell
// how much of a value is right. Guesses that are wrong in the first and in the last byte
// of 128 KiB come in random order; of all times the slower half, in which something else
// ran too, is left out, and the rest compared by Welch's t. 4.5 is exceeded by chance
// seven times in a million.
func TestMatchTiming(t *testing.T) {
	if *timing == 0 {
		t.Skip("NOT TESTED: it measures time; make timing runs it")
	}
	v, _, _ := newTestVault(t, func(c *Config, _ *testKMS) { c.MaxMisses = math.MaxInt32 })
	value := strings.Repeat("v", 128<<10)
	records := [][]byte{sealText(t, v, "a/b", 1, value)}
	guesses := [2][]byte{[]byte("x" + value[1:]), []byte(value[1:] + "x")}
	call := func(i int) float64 {
		began := time.Now()
		version, err := v.Match(t.Context(), testActor, "a/b", records, guesses[i])
		took := time.Since(began)
		if version != 0 || err != nil {
			t.Fatalf("guess %d: got %d, %v", i, version, err)
		}
		return took.Seconds() * 1e6
	}
	for i := range 100 { // the key is cached then, and code is warm
		call(i % 2)
	}
	var took [2][]float64
	for range *timing / 2 {
		for _, i := range rand.Perm(2) {
			took[i] = append(took[i], call(i))
		}
	}
	all := slices.Sorted(slices.Values(slices.Concat(took[0], took[1])))
	for i := range took {
		took[i] = slices.DeleteFunc(took[i], func(x float64) bool { return x > all[len(all)/2] })
	}
	first, last := spread(took[0]), spread(took[1])
	errors := (last.mean - first.mean) / math.Sqrt(first.variance/first.n+last.variance/last.n)
	t.Logf("wrong in the first byte %.2f µs, in the last %.2f µs, %.0f and %.0f calls: %+.1f standard errors", first.mean, last.mean, first.n, last.n, errors)
	if math.Abs(errors) > 4.5 {
		t.Error("they can be told apart")
	}
}

type spreading struct{ n, mean, variance float64 }

func spread(x []float64) (s spreading) {
	s.n = float64(len(x))
	for _, v := range x {
		s.mean += v / s.n
	}
	for _, v := range x {
		s.variance += (v - s.mean) * (v - s.mean) / (s.n - 1)
	}
	return s
}
