// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Every call of the file system panics once, while records are appended, synced and
// signed, segments begun and deleted. The process goes on, nothing is appended any
// more, nobody waits for ever, and the next start has all that was appended, once.
func TestPanics(t *testing.T) {
	for _, c := range []struct {
		name      string
		mode      Sync
		appending bool // calls while Append runs, which are mostly its own; with always it waits for the spool's goroutine
		least     int  // one for each append, and what syncs, heads and deletions make
	}{
		{"batch, appending", SyncBatch, true, appends},
		{"batch, beside", SyncBatch, false, 20},
		{"always", SyncAlways, false, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			panics := 0
			for panicAt(t, c.mode, c.appending, panics+1) {
				panics++
			}
			t.Logf("%d panics", panics)
			if panics < c.least {
				t.Errorf("want %d at least", c.least)
			}
		})
	}
}

// appends is how often something is appended to each of TestPanics's spools.
const appends = 12

// panicAt has the nth of these calls of the file system panic. It says whether there were as many.
func panicAt(t *testing.T, mode Sync, appending bool, n int) (met bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sys, name := newMemSystem(), ""
		var inAppend atomic.Bool
		w := newWorld(mode)
		told := 0
		s := openPanicking(t, w, sys, &told)
		calls := 0
		sys.on(func(op, path string) fate {
			if inAppend.Load() != appending {
				return fate{}
			}
			if calls++; calls == n {
				name = op + " " + path
				panic("panic canary")
			}
			return fate{}
		})
		for range appends {
			inAppend.Store(mode == SyncBatch)
			err := w.append(s, 9)
			inAppend.Store(false)
			if err != nil && !errors.Is(err, ErrPanic) {
				t.Errorf("call %d: got %v, want %v", n, err, ErrPanic)
			}
			_ = s.Sync(t.Context())
			<-time.After(tick / 2)
		}
		synctest.Wait() // what the spool's goroutine does at the same instant
		sys.on(nil)     // it wrote name under the same lock
		met = name != ""
		if met {
			checkDead(t, s, name, &told)
		} else if err := s.Close(); err != nil {
			t.Error(err)
		}
		w.check(t, sys.killed(), false)
	})
	return met
}

// openPanicking opens a spool with segments to be deleted.
func openPanicking(t *testing.T, w *world, sys *memSystem, told *int) *Spool {
	t.Helper()
	o := w.options(sys)
	o.Panicked = func(p any) {
		if p != "panic canary" {
			t.Errorf("told of %v", p)
		}
		*told++
	}
	s, err := Open(testRoot, o)
	if err != nil {
		t.Fatal(err)
	}
	node, key, _ := s.Identity()
	w.trust[node] = []Fingerprint{key}
	for range 8 {
		if err := w.append(s, 9); err != nil {
			t.Fatal(err)
		}
		if err := w.settle(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.ship(s); err != nil {
		t.Fatal(err)
	}
	return s
}

// checkDead: a spool that has met a panic does nothing more, and says so.
func checkDead(t *testing.T, s *Spool, name string, told *int) {
	t.Helper()
	s.Refuse(nil)
	for what, err := range map[string]error{
		"Append": s.Append(t.Context(), []Record{read("x")}), "Sync": s.Sync(t.Context()), "Ready": s.Ready(), "Status": s.Status().Err,
	} {
		if !errors.Is(err, ErrPanic) {
			t.Errorf("%s: %s: got %v, want %v", name, what, err, ErrPanic)
		}
	}
	_ = s.Oldest() // a shipper that goes on does not hang
	if err := s.Close(); !errors.Is(err, ErrPanic) {
		t.Errorf("%s: Close: got %v, want %v", name, err, ErrPanic)
	}
	if *told != 1 { // Close has waited for who tells
		t.Errorf("%s: told %d times", name, *told)
	}
}

// TestGroupPanics: who shares a write with a panic is told that nothing was written.
func TestGroupPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newMemSystem()
		s, err := Open(testRoot, Options{sys: sys})
		if err != nil {
			t.Fatal(err)
		}
		sys.on(func(string, string) fate { panic("panic canary") })
		var members []*group
		for _, name := range []string{"a", "b"} {
			g, _, err := s.enter(t.Context(), []Record{read(name)})
			if err != nil {
				t.Fatal(err)
			}
			members = append(members, g)
		}
		for _, g := range members {
			if err := s.written(t.Context(), g); !errors.Is(err, ErrPanic) {
				t.Errorf("got %v, want %v", err, ErrPanic)
			}
		}
		sys.on(nil)
		if err := s.Close(); !errors.Is(err, ErrPanic) {
			t.Errorf("Close: got %v", err)
		}
	})
}

// TestHandOn: the turn that a panic ends is that of a dead spool.
func TestHandOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(testRoot, Options{sys: newMemSystem()})
		if err != nil {
			t.Fatal(err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic has ended")
				}
			}()
			s.turn <- struct{}{}
			defer s.handOn()
			panic("panic canary")
		}()
		if err := s.Append(t.Context(), []Record{read("a")}); !errors.Is(err, ErrPanic) {
			t.Errorf("got %v, want %v", err, ErrPanic)
		}
		if err := s.Close(); !errors.Is(err, ErrPanic) {
			t.Errorf("Close: got %v", err)
		}
	})
}
