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

// nth makes so many calls from the nth on have a fate, and says which ones.
func nth(n, many int, name *string, f fate) func(op, path string) fate {
	calls := 0
	return func(op, path string) fate {
		if calls++; calls < n || calls >= n+many {
			return fate{}
		}
		*name += "; " + op + " " + path
		return f
	}
}

// Every call of the file system fails once, in each way that it can, and together
// with the two behind it, during everything that a spool does. Nothing that was
// appended without an error is missing, nothing is there twice, and the spool goes
// on by itself. At the end the process is killed or the machine goes down.
func TestEveryCallFails(t *testing.T) {
	changes := []string{"write", "sync", "rename", "remove", "syncdir", "create", "mkdir"}
	faults := []struct {
		name string
		fate fate
		only []string // nil: any call
		many int
	}{
		{"EIO", fate{err: syscall.EIO}, nil, 1},
		{"EIO, three times", fate{err: syscall.EIO}, changes, 3},
		{"EIO after the effect", fate{err: syscall.EIO, effect: true}, changes, 1},
		{"ENOSPC after a half", fate{err: syscall.ENOSPC, half: true}, []string{"write"}, 1},
		{"a short write", fate{err: io.ErrShortWrite, half: true}, []string{"write"}, 1},
	}
	for _, mode := range []Sync{SyncBatch, SyncAlways} {
		calls := lifeCalls(t, mode)
		for f, fault := range faults {
			for i, op := range calls {
				if isLeftOut(i) || fault.only != nil && !slices.Contains(fault.only, op) {
					continue
				}
				synctest.Test(t, func(t *testing.T) {
					w, sys, name := newWorld(mode), newMemSystem(), ""
					sys.on(nth(i+1, fault.many, &name, fault.fate))
					w.live(sys)
					crashed := (i+f)%2 == 0
					defer func() {
						if t.Failed() {
							t.Logf("%v: call %d%s: %s, crashed %v", mode, i+1, name, fault.name, crashed)
						}
					}()
					if crashed {
						w.check(t, sys.crashed(nil), true)
					} else {
						w.check(t, sys.killed(), false)
					}
				})
			}
		}
	}
}

var errTest = errors.New("the machine is going down")

// The process ends at every call of the file system that changes something; then
// the machine does, and what is not synced is lost altogether, or left in any order.
func TestDeathAtEveryCall(t *testing.T) {
	changes := []string{"mkdir", "create", "write", "sync", "rename", "syncdir", "remove"}
	ends := map[string]func(*world, *memSystem, *rand.Rand) *memSystem{
		"the process ended":                  func(_ *world, sys *memSystem, _ *rand.Rand) *memSystem { return sys.killed() },
		"the machine lost all":               func(_ *world, sys *memSystem, _ *rand.Rand) *memSystem { return sys.crashed(nil) },
		"the machine lost some, in disorder": func(_ *world, sys *memSystem, rng *rand.Rand) *memSystem { return sys.crashed(rng) },
		"the process ended, and behind the next start the machine lost all": func(w *world, sys *memSystem, _ *rand.Rand) *memSystem {
			next := sys.killed()
			s, err := w.open(next)
			next = next.crashed(nil)
			if err == nil { // else the next one says so
				_ = s.Close() // of the dead
			}
			return next
		},
	}
	for _, mode := range []Sync{SyncBatch, SyncAlways} {
		for i, op := range lifeCalls(t, mode) {
			if isLeftOut(i) || !slices.Contains(changes, op) {
				continue
			}
			for end, leave := range ends {
				for _, after := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) {
						w, sys, name := newWorld(mode), newMemSystem(), ""
						sys.on(nth(i+1, 1, &name, fate{err: errTest, effect: after, half: !after, thenDie: true}))
						w.live(sys)
						defer func() {
							if t.Failed() {
								t.Logf("%v: call %d, %s, after its effect %v: %s", mode, i+1, name, after, end)
							}
						}()
						next := leave(w, sys, rand.New(rand.NewPCG(uint64(i), uint64(mode))))
						w.check(t, next, next.boot != sys.boot)
					})
				}
			}
		}
	}
}
