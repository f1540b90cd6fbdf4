// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"errors"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
)

// Records that are appended at the same time are one write, and share what becomes of
// it: after a fault none of them is in the chain.
func TestGroup(t *testing.T) {
	for _, fault := range []error{nil, syscall.ENOSPC} {
		synctest.Test(t, func(t *testing.T) {
			sys := newMemSystem()
			s, err := Open(testRoot, Options{sys: sys})
			if err != nil {
				t.Fatal(err)
			}
			mustAppend(t, s, read("before"))
			writes := 0
			s.turn <- struct{}{}
			sys.on(func(op, _ string) fate {
				if op != "write" {
					return fate{}
				}
				writes++
				return fate{err: fault}
			})
			var members []*group
			for _, name := range []string{"a", "b", "c"} {
				g, err := s.join([]Record{read(name)})
				if err != nil {
					t.Fatal(err)
				}
				members = append(members, g)
			}
			s.writeGroup()
			for i, g := range members {
				if !errors.Is(g.err, fault) {
					t.Errorf("%d: %v, want %v", i, g.err, fault)
				}
				s.leave(g)
			}
			sys.on(nil)
			<-s.turn
			if writes != 1 {
				t.Errorf("%d writes, want one", writes)
			}
			mustAppend(t, s, read("behind"))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			want := []string{"before", "a", "b", "c", "behind"}
			if fault != nil {
				want = []string{"before", "behind"}
			}
			if s, err = Open(testRoot, Options{sys: sys}); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range rowsOf(t, s) {
				if r.Face == FaceSQL {
					got = append(got, r.Secret)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("records of %q, want %q", got, want)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
