// SPDX-License-Identifier: GPL-3.0-or-later

package main

import "testing"

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
