// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// differs is how two samples differ: in where they are (Mann and Whitney) and in
// whatever else (Kolmogorov and Smirnov).
type differs struct {
	effect             float64 // how much more often than half of the time the first is larger: -0.5 to 0.5
	errors             float64 // the same in standard errors
	distance, critical float64 // of the distributions; what chance exceeds once in 100,000 times
}

// maxErrors is exceeded by chance about seven times in a million.
const maxErrors = 4.5

func (d differs) found() bool { return math.Abs(d.errors) > maxErrors || d.distance > d.critical }

func difference(x, y []float64) (d differs) {
	a, b := slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y))
	n, m := float64(len(a)), float64(len(b))
	larger := 0.0
	for i, below, upTo := 0, 0, 0; i < len(a); i++ {
		for below < len(b) && b[below] < a[i] {
			below++
		}
		for upTo < len(b) && b[upTo] <= a[i] {
			upTo++
		}
		larger += float64(below+upTo) / 2
		if i == 0 || a[i] != a[i-1] { // just below this value, and up to it
			d.distance = max(d.distance, math.Abs(float64(i)/n-float64(below)/m))
		}
		if i+1 == len(a) || a[i] != a[i+1] {
			d.distance = max(d.distance, math.Abs(float64(i+1)/n-float64(upTo)/m))
		}
	}
	d.effect = larger/(n*m) - 0.5
	d.errors = d.effect / math.Sqrt((n+m+1)/(12*n*m))
	d.critical = math.Sqrt(-math.Log(1e-5/2)/2) * math.Sqrt((n+m)/(n*m))
	return d
}

func quantile(x []float64, q float64) float64 {
	return slices.Sorted(slices.Values(x))[int(q*float64(len(x)-1))]
}

// TestDifference: of samples as large as TestTiming's a shift by a sixth of the
// spread is found, another spread too, and none where there is none.
func TestDifference(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	sample := func(shift, spread float64) []float64 {
		x := make([]float64, 4000)
		for i := range x {
			x[i] = math.Round(100 * (shift + spread*dice.NormFloat64()))
		}
		return x
	}
	for range 20 {
		if d := difference(sample(0, 1), sample(0, 1)); d.found() || math.Abs(d.effect) > 0.03 {
			t.Errorf("the same: %+v", d)
		}
		if d := difference(sample(0.17, 1), sample(0, 1)); !d.found() || d.effect < 0 {
			t.Errorf("later: %+v", d)
		}
		if d := difference(sample(0, 1.3), sample(0, 1)); !d.found() {
			t.Errorf("wider: %+v", d)
		}
	}
	if d := difference([]float64{1, 1, 2}, []float64{1, 1, 2}); d.effect != 0 || d.distance != 0 {
		t.Errorf("ties: %+v", d)
	}
}
