// SPDX-License-Identifier: GPL-3.0-or-later

//go:build !race

package audit

import "testing"

// The buffer of a Spool is reused: a record costs no memory. What a sync allocates
// has nothing to do with how many records it is for, but is counted if one takes long:
// so the least of some attempts counts.
func TestAllocAppend(t *testing.T) {
	s := openOS(t, t.TempDir(), Options{})
	for _, n := range []int{1, 1024} {
		records := make([]Record, n)
		for i := range records {
			records[i] = read("db/password")
		}
		allocs := float64(n)
		for attempt := 0; attempt < 10 && allocs > float64(n/100); attempt++ {
			allocs = testing.AllocsPerRun(100, func() {
				if err := s.Append(t.Context(), records); err != nil {
					t.Fatal(err)
				}
			})
		}
		if allocs > float64(n/100) { // syncs come meanwhile
			t.Errorf("%d records: %v allocations", n, allocs)
		}
	}
}
