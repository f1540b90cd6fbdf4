// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func openMem(t *testing.T, sys system, o Options) *Spool {
	t.Helper()
	o.sys = sys
	s, err := Open(testRoot, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Only what is durable is handed out: what the vault has must never be lost here.
func TestOnlyDurableRecordsAreShipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		s := openMem(t, g, Options{})
		defer s.Close()
		g.watch("sync")
		mustAppend(t, s, read("a"))
		<-g.reached
		c, err := s.Cursor(Position{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if b, err := c.Next(10); err != nil || b.N != 1 {
			t.Errorf("got %d records, %v, want the start alone", b.N, err)
		}
		g.watch("")
		g.through <- nil
		synctest.Wait()
		if b, err := c.Next(10); err != nil || b.N != 1 || b.Head.Position != c.scan.last || !b.Head.Valid() {
			t.Errorf("got %+v, %v, want a and a head", b, err)
		}
		if b, err := c.Next(10); err != nil || b.N != 0 || b.Head != (Head{}) {
			t.Errorf("got %+v, %v, want nothing", b, err)
		}
	})
}

// What comes from the network is seen to while a batch is read: most nodes have one
// processor.
func TestOthersRunWhileABatchIsRead(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	s := openMem(t, newMemSystem(), Options{})
	defer s.Close()
	mustAppend(t, s, slices.Repeat([]Record{read("a")}, 16*spell)...)
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := s.Cursor(Position{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var seen atomic.Bool
	ended := make(chan error, 1)
	go func() {
		_, err := r.Read(make([]byte, 1))
		seen.Store(true)
		ended <- err
	}()
	runtime.Gosched() // it waits
	if _, err := w.WriteString("."); err != nil {
		t.Fatal(err)
	}
	if b, err := c.Next(16 * spell); err != nil || b.N != 16*spell {
		t.Fatalf("got %d records, %v", b.N, err)
	}
	if !seen.Load() {
		t.Error("nobody else ran")
	}
	if err := errors.Join(<-ended, w.Close()); err != nil {
		t.Error(err)
	}
}

// A node that is not the one that the vault knows is told so.
func TestForks(t *testing.T) {
	sys := newMemSystem()
	s := openMem(t, sys, Options{})
	mustAppend(t, s, read("a"), read("b"))
	rows := rowsOf(t, s)
	clone := openMem(t, sys.killed(), Options{})
	defer clone.Close()
	_ = s.Close()
	mustAppend(t, clone, read("c"), read("d"))
	if got := rowsOf(t, clone); got[2] != rows[2] || got[3] == rows[2] {
		t.Fatalf("got %+v, want a clone of %+v", got, rows)
	}
	for name, p := range map[string]Position{
		"another record": {4, rows[2].Hash},
		"a later one":    {100, rows[2].Hash},
		"no such hash":   {0, rows[2].Hash},
	} {
		if _, err := clone.Cursor(p); !errors.Is(err, ErrForked) {
			t.Errorf("%s: got %v, want ErrForked", name, err)
		}
	}
	if got := clone.Status().Shipped; got != 0 {
		t.Errorf("got %d shipped records, want 0", got)
	}
	c, err := clone.Cursor(rows[1].Position())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := c.Next(2)
	if err != nil || b.N != 2 || b.After.Seq != 2 {
		t.Fatalf("got %+v, %v", b, err)
	}
	for name, p := range map[string]Position{
		"another hash":       {3, rows[0].Hash},
		"not of the batch":   rows[0].Position(),
		"not handed out yet": {5, rows[0].Hash},
	} {
		if err := c.Shipped(p); !errors.Is(err, ErrForked) {
			t.Errorf("%s: got %v, want ErrForked", name, err)
		}
	}
	if err := c.Shipped(rowsIn(t, &b)[0].Position()); err != nil || clone.Status().Shipped != 3 {
		t.Errorf("got %v, %+v", err, clone.Status())
	}
}

// Segments are kept until their records were shipped and VAULT_AUDIT_KEEP has
// passed; a vault that was restored to an earlier state gets them again.
func TestKeeping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newMemSystem()
		s := openMem(t, sys, Options{SegmentBytes: 1, Keep: time.Hour})
		defer func() { _ = s.Close() }()
		segments := func() int { return s.Status().Segments }
		many := appendSegments(t, s)
		rows := rowsOf(t, s)
		c, err := s.Cursor(rows[3].Position())
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		sys.on(func(op, path string) fate {
			if op == "create" && strings.Contains(path, shippedFile) {
				return fate{err: syscall.EIO}
			}
			return fate{}
		})
		if c, err = s.Cursor(rows[1].Position()); err != nil { // restored
			t.Fatal(err)
		}
		c.Close()
		sys.on(nil)
		<-time.After(tick + time.Second)
		if got := segments(); got < many-3 || got >= many {
			t.Errorf("got %d of %d segments, want those from record 3 on", got, many)
		}
		if c, err = s.Cursor(rows[1].Position()); err != nil {
			t.Fatalf("what the vault needs again was deleted: %v", err)
		}
		if _, err := s.Cursor(Position{}); !errors.Is(err, ErrGone) {
			t.Errorf("got %v, want ErrGone", err)
		}
		b, err := c.Next(100)
		if err != nil || b.N != 3 || rowsIn(t, &b)[0] != rows[2] {
			t.Fatalf("got %+v, %v, want the rows from 3 on", b, err)
		}
		last := checkAge(t, s, c, b.Head.Position)
		c.Close()
		_ = s.Close()
		s = openMem(t, sys, Options{SegmentBytes: 1, Keep: time.Hour})
		if _, err := s.Cursor(last); err != nil {
			t.Error(err)
		}
	})
}

// appendSegments makes some that are old, and that nobody has shipped.
func appendSegments(t *testing.T, s *Spool) (many int) {
	t.Helper()
	for range 4 {
		mustAppend(t, s, read("a"))
		if err := settle(s); err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(2 * time.Hour)
	if many = s.Status().Segments; many < 5 {
		t.Fatalf("got %d segments, and nothing was shipped", many)
	}
	return many
}

// checkAge: what was shipped stays until it is old enough.
func checkAge(t *testing.T, s *Spool, c *Cursor, shipped Position) (last Position) {
	t.Helper()
	mustAppend(t, s, read("young"))
	if err := settle(s); err != nil {
		t.Fatal(err)
	}
	if err := c.Shipped(shipped); err != nil {
		t.Fatal(err)
	}
	<-time.After(tick + time.Second)
	if got := s.Status().Segments; got != 2 {
		t.Errorf("got %d segments, want the one that was ended a moment ago and the open one", got)
	}
	b, err := c.Next(100)
	if err != nil || b.N != 1 || rowsIn(t, &b)[0].Secret != "young" {
		t.Errorf("got %+v, %v, want the youngest", b, err)
	}
	for _, step := range []struct {
		wait time.Duration
		want int
	}{{tick + time.Second, 2}, {time.Hour, 1}} {
		if err := c.Shipped(b.Head.Position); err != nil {
			t.Fatal(err)
		}
		<-time.After(step.wait)
		if got := s.Status().Segments; got != step.want {
			t.Errorf("got %d segments after %v, want %d", got, step.wait, step.want)
		}
	}
	return b.Head.Position
}

// Whether the vault was restored while the node was down, it finds out before it
// deletes anything.
func TestKeepingAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newMemSystem()
		o := Options{SegmentBytes: 1, Keep: time.Hour}
		s := openMem(t, sys, o)
		w := newWorld(SyncBatch)
		for range 4 {
			mustAppend(t, s, read("a"))
			if err := settle(s); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.ship(s); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		s = openMem(t, sys, o)
		defer func() { _ = s.Close() }()
		<-time.After(2 * time.Hour)
		if got := s.Oldest().Seq; got != 0 {
			t.Errorf("records up to %d are deleted, and nobody has asked the vault since the start", got)
		}
		if err := w.ship(s); err != nil {
			t.Fatal(err)
		}
		<-time.After(tick + time.Second)
		if got := s.Oldest().Seq; got == 0 {
			t.Error("nothing is deleted after the vault was asked")
		}
	})
}

// A full segment is ended, and one that a day does not fill.
func TestSegmentsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openMem(t, newMemSystem(), Options{SegmentBytes: 5_000})
		defer s.Close()
		for range 100 {
			mustAppend(t, s, read("a"))
			if err := settle(s); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.Status().Segments; got < 4 || got > 6 { // a record has about 200 bytes
			t.Errorf("got %d segments", got)
		}
		before := s.Status().Segments
		<-time.After(23 * time.Hour)
		if got := s.Status().Segments; got != before {
			t.Errorf("got %d segments after 23 hours, want %d", got, before)
		}
		<-time.After(24 * time.Hour)
		if got := s.Status().Segments; got != before+1 {
			t.Errorf("got %d segments after 47 hours, want %d: an empty one is not ended", got, before+1)
		}
		if rows := rowsOf(t, s); len(rows) != 101 {
			t.Errorf("got %d rows", len(rows))
		}
	})
}

// Damage that comes later is found when the records are shipped.
func TestDamageIsNotShipped(t *testing.T) {
	sys := newMemSystem()
	s := openMem(t, sys, Options{SegmentBytes: 1})
	defer s.Close()
	for range 3 {
		mustAppend(t, s, read("a"))
		if err := settle(s); err != nil {
			t.Fatal(err)
		}
	}
	n := segmentOf(t, sys, 2)
	n.data[len(n.data)-1] ^= 1
	c, err := s.Cursor(Position{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Next(100); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
}

// TestMarkIsNotStored: a disk that is full or takes no writes keeps nothing from the
// vault that is durable, and nothing is deleted of which it is not known for good that
// the vault has it.
func TestMarkIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newMemSystem()
		var said strings.Builder
		s := openMem(t, sys, Options{SegmentBytes: 1, Keep: time.Hour, Log: slog.New(slog.NewTextHandler(&said, nil))})
		defer func() { _ = s.Close() }()
		many := appendSegments(t, s)
		sys.on(func(op, path string) fate {
			if op == "create" && strings.Contains(path, shippedFile) {
				return fate{err: syscall.ENOSPC}
			}
			return fate{}
		})
		c, err := s.Cursor(Position{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var last Position
		for range 2 {
			b, err := c.Next(2)
			if err == nil && b.N == 2 {
				last = b.Head.Position
				err = c.Shipped(last)
			}
			if err != nil || b.N != 2 {
				t.Fatalf("got %d records, %v", b.N, err)
			}
		}
		<-time.After(tick + time.Second)
		if st := s.Status(); st.Shipped != 0 || st.Segments != many {
			t.Errorf("got %+v, want all %d segments", st, many)
		}
		if n := strings.Count(said.String(), "cannot be stored"); n != 1 {
			t.Errorf("said %d times: %s", n, said.String())
		}
		sys.on(nil)
		if err := c.Shipped(last); err != nil {
			t.Fatal(err)
		}
		<-time.After(tick + time.Second)
		if st := s.Status(); st.Shipped != last.Seq || st.Segments >= many {
			t.Errorf("then got %+v, want fewer than %d segments", st, many)
		}
	})
}

// A segment that somebody deletes before it was shipped is told, by its name, while the
// node runs and at its next start; it is no gap, which a restore leaves.
func TestDeletedSegment(t *testing.T) {
	dir := t.TempDir()
	o := Options{SegmentBytes: 2 << 10}
	s := openOS(t, dir, o)
	for range 4 {
		mustAppend(t, s, slices.Repeat([]Record{read("a")}, 40)...)
		if err := s.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Status().Segments; n < 3 {
		t.Fatalf("got %d segments, want 3 or more", n)
	}
	path := filepath.Join(dir, spoolDir, segmentName(2))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	c, err := s.Cursor(Position{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for err == nil {
		var b Batch
		if b, err = c.Next(100); err == nil && b.N == 0 {
			t.Fatal("all was shipped")
		}
	}
	if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrGone) || !strings.Contains(err.Error(), segmentName(2)) {
		t.Errorf("shipping: got %v, want the file that is missing", err)
	}
	mustAppend(t, s, read("b")) // what is done now is recorded all the same
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Open(dir, o); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "segment 2 is missing, with records from ") {
		t.Errorf("the next start: got %v, want what is missing", err)
	}
}
