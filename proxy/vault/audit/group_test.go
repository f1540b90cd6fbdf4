// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
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

// TestAlone: who has appended alone for a while waits for nobody, but now and then, and
// for all once somebody has joined him.
func TestAlone(t *testing.T) {
	s := openMem(t, newMemSystem(), Options{})
	defer s.Close()
	waits := func(members int) bool {
		s.turn <- struct{}{}
		defer func() { <-s.turn }()
		var g *group
		for range members {
			var err error
			if g, err = s.join([]Record{read("a"), read("b")}); err != nil {
				t.Fatal(err)
			}
		}
		s.writeGroup()
		waits := g.waits
		for range members {
			s.leave(g)
		}
		return waits
	}
	waited := func(groups int) (n int) {
		for range groups {
			if waits(1) {
				n++
			}
		}
		return n
	}
	waits(2)
	if got := waited(lonely); got != lonely {
		t.Errorf("%d of the first %d waited, want all", got, lonely)
	}
	if got := waited(10 * tryEvery); got != 10 {
		t.Errorf("%d of %d that were alone waited, want one in %d", got, 10*tryEvery, tryEvery)
	}
	waits(2)
	if got := waited(lonely); got != lonely {
		t.Errorf("%d of %d behind a group of two waited, want all", got, lonely)
	}
}

// TestGivenUp: a record whose append was given up while its group waited is in the chain
// once, as soon as any other, and what is appended behind it follows.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(testRoot, Options{sys: newMemSystem()})
		if err != nil {
			t.Fatal(err)
		}
		g, _, err := s.enter(t.Context(), []Record{read("given up")})
		if err != nil {
			t.Fatal(err)
		}
		last := s.Status().Durable
		s.turn <- struct{}{} // somebody else writes for longer than its caller waits
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.written(ctx, g); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the end of its time", err)
		}
		<-s.turn
		<-time.After(50 * time.Millisecond)
		if got := s.Status().Durable; got != last+1 {
			t.Errorf("record %d is durable 50 ms later, want %d", got, last+1)
		}
		mustAppend(t, s, read("behind"))
		if err := settle(s); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range rowsOf(t, s) {
			if r.Face == FaceSQL {
				got = append(got, r.Secret)
			}
		}
		if want := []string{"given up", "behind"}; !slices.Equal(got, want) {
			t.Errorf("records of %q, want %q", got, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
