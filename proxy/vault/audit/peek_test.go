// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

// TestPeek: a spool is seen as a start would find it, and is as it was afterwards.
func TestPeek(t *testing.T) {
	sys := newMemSystem()
	if _, err := peek(testRoot, Options{sys: sys}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the first start: got %v, want %v", err, fs.ErrNotExist)
	}
	sys, _ = leave(t, true)
	f, err := sys.Create("/node/audit/x" + tmpSuffix)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	before := fmt.Sprint(names(t, sys))
	found, err := peek(testRoot, Options{sys: sys})
	if err != nil {
		t.Fatal(err)
	}
	if after := fmt.Sprint(names(t, sys)); after != before {
		t.Errorf("it has changed %s to %s", before, after)
	}
	s := openMem(t, sys, Options{})
	if node, key, _ := s.Identity(); found.Node != node || found.Key != key || found.Last.Seq != 6 {
		t.Errorf("got %v, want record 6 of %v, %s", found, node, key)
	}
	if _, err := peek(testRoot, Options{sys: sys}); !errors.Is(err, ErrLocked) {
		t.Errorf("while a node is at work: got %v, want %v", err, ErrLocked)
	}
	next := sys.killed()
	segmentOf(t, next, 1).data[40]++
	if _, err := peek(testRoot, Options{sys: next}); !errors.Is(err, ErrDamaged) {
		t.Errorf("damage: got %v, want %v", err, ErrDamaged)
	}
	_ = s.Close() // of the dead
}

func names(t *testing.T, sys *memSystem) []string {
	t.Helper()
	names, err := sys.ReadDir("/node/audit")
	if err != nil {
		t.Fatal(err)
	}
	return names
}
