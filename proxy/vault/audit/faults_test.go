// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
)

// lifeCalls are the calls of a life in which nothing fails.
func lifeCalls(t *testing.T, mode Sync) (ops []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, sys := newWorld(mode), newMemSystem()
		sys.on(func(op, _ string) fate {
			ops = append(ops, op)
			return fate{}
		})
		w.live(sys)
		w.check(t, sys.killed(), false)
	})
	for _, op := range []string{
		"mkdir", "lock", "stat", "readdir", "create", "write", "sync", "close", "rename", "syncdir", "fstat", "free", "open", "read", "remove",
	} {
		if !slices.Contains(ops, op) {
			t.Fatalf("a spool's life has no %s", op)
		}
	}
	return ops
}

// isLeftOut reports whether a call is one that a slow build does not try.
func isLeftOut(call int) bool { return call%stride != 0 }

// changing are the calls that change something.
var changing = []string{"mkdir", "create", "write", "sync", "rename", "syncdir", "remove"}

// shot is a fate that so many calls have from the nth on.
type shot struct {
	n, many int
	fate    fate
	calls   int
	hit     []string
}

func (s *shot) call(op, path string) fate {
	if s.calls++; s.calls < s.n || s.calls >= s.n+s.many {
		return fate{}
	}
	s.hit = append(s.hit, op+" "+path)
	return s.fate
}

// end looks at what a life has left.
type end func(t *testing.T, w *world, sys *memSystem)

func killed(t *testing.T, w *world, sys *memSystem) {
	t.Helper()
	w.check(t, sys.killed(), false)
}

func crashed(t *testing.T, w *world, sys *memSystem) {
	t.Helper()
	w.check(t, sys.crashed(nil), true)
}

// live is a life in which the shot goes off. What becomes of it is for the ends, each of
// which has a copy of the world to itself.
func (s *shot) live(t *testing.T, mode Sync, ends map[string]end) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, sys := newWorld(mode), newMemSystem()
		sys.on(s.call)
		w.live(sys)
		sys.die()
		if len(s.hit) == 0 {
			t.Fatalf("%v: there is no call %d", mode, s.n)
		}
		for name, look := range ends {
			func() {
				before := t.Failed()
				defer func() {
					if t.Failed() && !before {
						t.Logf("%v: call %d, %q: %v, after its effect %v: %s", mode, s.n, s.hit, s.fate.err, s.fate.effect, name)
					}
				}()
				look(t, w.clone(), sys)
			}()
		}
	})
}

// Every call of the file system fails once, in each way that it can, and together
// with the two behind it, during everything that a spool does. Nothing that was
// appended without an error is missing, nothing is there twice, and the spool goes
// on by itself. At the end the process is killed, and the machine goes down.
func TestEveryCallFails(t *testing.T) {
	faults := []struct {
		fate fate
		only []string // nil: any call
		many int
	}{
		{fate{err: syscall.EIO}, nil, 1},
		{fate{err: syscall.EIO}, changing, 3},
		{fate{err: syscall.EIO, effect: true}, changing, 1},
		{fate{err: syscall.ENOSPC}, changing, 1},
		{fate{err: syscall.EROFS}, changing, 2},
		{fate{err: syscall.ENOSPC, half: true}, []string{"write"}, 1},
		{fate{err: io.ErrShortWrite, half: true}, []string{"write"}, 1},
	}
	for _, mode := range []Sync{SyncBatch, SyncAlways} {
		for i, op := range lifeCalls(t, mode) {
			for _, fault := range faults {
				if isLeftOut(i) || fault.only != nil && !slices.Contains(fault.only, op) {
					continue
				}
				s := shot{n: i + 1, many: fault.many, fate: fault.fate}
				s.live(t, mode, map[string]end{"killed": killed, "crashed": crashed})
			}
		}
	}
}

var errTest = errors.New("the machine is going down")

// The process ends at every call of the file system that changes something; then
// the machine does, and what is not synced is lost altogether, or left in any order.
func TestDeathAtEveryCall(t *testing.T) {
	for _, mode := range []Sync{SyncBatch, SyncAlways} {
		for i, op := range lifeCalls(t, mode) {
			if isLeftOut(i) || !slices.Contains(changing, op) {
				continue
			}
			for _, after := range []bool{false, true} {
				s := shot{n: i + 1, many: 1, fate: fate{err: errTest, effect: after, half: !after, thenDie: true}}
				s.live(t, mode, map[string]end{
					"the process ended":    killed,
					"the machine lost all": crashed,
					"the machine lost some, in disorder": func(t *testing.T, w *world, sys *memSystem) {
						t.Helper()
						w.check(t, sys.crashed(rand.New(rand.NewPCG(uint64(i), uint64(mode)))), true)
					},
					"the process ended, and behind the next start the machine lost all": func(t *testing.T, w *world, sys *memSystem) {
						t.Helper()
						next := sys.killed()
						dead, err := w.open(next)
						next = next.crashed(nil)
						if err == nil { // else the next one says so
							_ = dead.Close()
						}
						w.check(t, next, true)
					},
				})
			}
		}
	}
}
