// SPDX-License-Identifier: GPL-3.0-or-later

//go:build !race

package wire

// The race detector makes pools drop what they are given; without it, here,
// allocations are counted.

import (
	"io"
	"testing"
)

// Untouched traffic allocates nothing: allocations are counted, not timed.
func TestRelayAllocatesNothing(t *testing.T) {
	c, far := pair(t)
	r := NewClientReader(c)
	msg := AppendEmpty(AppendQuery(nil, "select abalance from pgbench_accounts where aid = 4711"), Sync)
	echo := make([]byte, len(msg))
	got := testing.AllocsPerRun(200, func() {
		if _, err := far.Write(msg); err != nil {
			t.Fatal(err)
		}
		for sent := 0; sent < len(msg); {
			if err := r.Fill(); err != nil {
				t.Fatal(err)
			}
			run := 0
			for {
				_, size, ok, err := r.Header(run)
				if err != nil {
					t.Fatal(err)
				}
				if !ok || run+size > len(r.Buffered()) {
					break
				}
				run += size
			}
			if _, err := c.Write(r.Buffered()[:run]); err != nil {
				t.Fatal(err)
			}
			r.Discard(run)
			sent += run
		}
		if _, err := io.ReadFull(far, echo); err != nil {
			t.Fatal(err)
		}
	})
	if got != 0 {
		t.Errorf("%v allocations per run, want none", got)
	}
}
