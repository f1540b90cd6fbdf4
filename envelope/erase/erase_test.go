// SPDX-License-Identifier: GPL-3.0-or-later

package erase_test

import (
	"bytes"
	"testing"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
)

func TestZero(t *testing.T) {
	b := []byte("0123456789")
	erase.Zero(b[2:8])
	if want := []byte("01\x00\x00\x00\x00\x00\x0089"); !bytes.Equal(b, want) {
		t.Errorf("got %q, want %q", b, want)
	}
	erase.Zero(nil)
}

func TestDo(t *testing.T) {
	n := 0
	erase.Do(func() { erase.Do(func() { n++ }) })
	if n != 1 {
		t.Errorf("got %d calls, want 1", n)
	}
	if n := testing.AllocsPerRun(100, func() { erase.Do(func() { n++ }) }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
	got := func() (got any) {
		defer func() { got = recover() }()
		erase.Do(func() { panic("out") })
		return nil
	}()
	if got != "out" {
		t.Errorf("got panic %v, want out", got)
	}
	t.Logf("this build erases: %v", erase.Enabled())
}
