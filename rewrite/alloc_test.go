// SPDX-License-Identifier: GPL-3.0-or-later

//go:build !race

package rewrite

import "testing"

// The race detector makes pools drop what they are given; without it, here,
// allocations are counted.
func TestMayMoveAllocatesNothing(t *testing.T) {
	a := testAnalyzer()
	o := Options{StdStrings: true, Settled: true, Encoding: "UTF8"}
	local := []byte("SELECT a, Count(*) FROM T WHERE b = 'x' GROUP BY 1")
	if got := testing.AllocsPerRun(100, func() { a.MayMove(local, o) }); a.MayMove(local, o) || got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}
