// SPDX-License-Identifier: GPL-3.0-or-later

//go:build !race

package rewrite

import "testing"

// The race detector allocates; without it, here, allocations are counted.
func TestMayMoveAllocatesNothing(t *testing.T) {
	local := []byte("SELECT a, Count(*) FROM T WHERE b = 'x' GROUP BY 1")
	if got := testing.AllocsPerRun(100, func() { MayMove(local) }); MayMove(local) || got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}

func TestBeginsReadingAllocatesNothing(t *testing.T) {
	text := []byte("START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
	if got := testing.AllocsPerRun(100, func() { BeginsReading(text) }); !BeginsReading(text) || got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}
