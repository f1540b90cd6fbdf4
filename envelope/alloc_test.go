// SPDX-License-Identifier: GPL-3.0-or-later

//go:build !race

package envelope_test

import "testing"

func TestAllocOpen(t *testing.T) {
	kms := newLocal(t, 1)
	s := newSealer(t, kms, kms.KeyID(), nil)
	r := seal(t, s, "a", []byte("value"))
	dst := make([]byte, 0, 64)
	open := func() {
		if _, err := s.Open(t.Context(), r, dst); err != nil {
			t.Fatal(err)
		}
	}
	open()
	// The one is the cipher's own state, which x/crypto lets nobody place.
	if n := testing.AllocsPerRun(100, open); n > 1 {
		t.Errorf("got %v allocations, want at most 1", n)
	}
}
