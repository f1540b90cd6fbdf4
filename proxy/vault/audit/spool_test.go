// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// openOS opens a spool on the real file system and closes it with the test.
func openOS(t *testing.T, dir string, o Options) *Spool {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func mustAppend(t *testing.T, s *Spool, records ...Record) {
	t.Helper()
	if err := s.Append(t.Context(), records); err != nil {
		t.Fatal(err)
	}
}

// rowsOf returns all rows of a spool, from the first on.
func rowsOf(t *testing.T, s *Spool) []Row {
	t.Helper()
	if err := settle(s); err != nil {
		t.Fatal(err)
	}
	c, err := s.Cursor(Position{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := c.Next(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	return rowsIn(t, &b)
}

// rowsIn are a batch's.
func rowsIn(t *testing.T, b *Batch) []Row {
	t.Helper()
	rows, err := b.Rows()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestAppend(t *testing.T) {
	s := openOS(t, t.TempDir(), Options{})
	full := Record{
		At: time.UnixMicro(1_700_000_000_123456).UTC(), Actor: "ann", SessionRole: "app", Addr: netip.MustParseAddr("2001:db8::1"), Face: FaceREST,
		Database: "db", Action: ActionVerify, Secret: "a/b", Version: 7, Outcome: OutcomeMismatch, Direct: true, Reason: "kind", Change: 9, Statement: 1 << 63,
	}
	strange := read("a\x00b\xff")
	strange.At, strange.Addr, strange.Actor = full.At, netip.MustParseAddr("::ffff:10.0.0.1"), strings.Repeat("é", 200)
	cleaned := strange
	cleaned.Secret, cleaned.Addr, cleaned.Actor = "a\uFFFDb\uFFFD", netip.MustParseAddr("10.0.0.1"), strings.Repeat("é", 126)+"…"
	mustAppend(t, s, full, strange)
	if err := s.Append(t.Context(), nil); err != nil {
		t.Error(err)
	}
	for name, wrong := range map[string]Record{
		"no face": {Action: ActionRead, Outcome: OutcomeOK},
		"a word":  {Face: "SQL", Action: ActionRead, Outcome: OutcomeOK},
		"version": {Face: FaceSQL, Action: ActionRead, Outcome: OutcomeOK, Version: -1},
		"time":    {Face: FaceSQL, Action: ActionRead, Outcome: OutcomeOK, At: time.Unix(-1, 0)},
	} {
		if err := s.Append(t.Context(), []Record{full, wrong}); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: got %v, want ErrRecord", name, err)
		}
	}
	rows := rowsOf(t, s)
	if len(rows) != 3 || rows[1].Record != full || rows[2].Record != cleaned {
		t.Errorf("got %+v, want the start, %+v and %+v", rows, full, cleaned)
	}
	if rows[0].Reason != leftFirst || rows[0].Prev != (Hash{}) || rows[2].Prev != rows[1].Hash || rows[2].Seq != 3 {
		t.Errorf("got a chain of %+v", rows)
	}
}

// A context that ends ends the wait of its caller, and nobody else's.
func TestContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		s, err := Open(testRoot, Options{Sync: SyncAlways, sys: g})
		if err != nil {
			t.Fatal(err)
		}
		g.watch("sync")
		defer s.Close()
		ctx, cancel := context.WithCancel(t.Context())
		gone, stays := make(chan error, 1), make(chan error, 1)
		go func() { gone <- s.Append(ctx, []Record{read("gone")}) }()
		<-g.reached
		go func() { stays <- s.Append(t.Context(), []Record{read("stays")}) }()
		synctest.Wait()
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's error", err)
		}
		g.through <- nil
		<-g.reached
		g.watch("")
		g.through <- nil
		if err := <-stays; err != nil {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) { // a write hangs
		g := newGate()
		s, err := Open(testRoot, Options{sys: g})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		g.watch("write")
		hangs := make(chan error, 1)
		go func() { hangs <- s.Append(t.Context(), []Record{read("a")}) }()
		<-g.reached
		g.watch("")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Append(ctx, []Record{read("b")}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error", err)
		}
		g.through <- nil
		if err := <-hangs; err != nil {
			t.Error(err)
		}
	})
	s := openOS(t, t.TempDir(), Options{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Append(ended, []Record{read("a")}); err != nil {
		t.Errorf("got %v, want a record of what was cancelled", err)
	}
}

func TestCloseIsTheEnd(t *testing.T) {
	dir := t.TempDir()
	s := openOS(t, dir, Options{Sync: SyncAlways})
	var done sync.WaitGroup
	var mu sync.Mutex
	acked := 0
	for range 8 {
		done.Go(func() {
			for {
				err := s.Append(t.Context(), []Record{read("a")})
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked++
				mu.Unlock()
			}
		})
	}
	for enough := false; !enough; {
		mu.Lock()
		enough = acked > 20
		mu.Unlock()
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	done.Wait()
	if err := s.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	rows := rowsOf(t, openOS(t, dir, Options{}))
	if n := len(rows); n != acked+3 || rows[n-2].Action != ActionStop || rows[n-1].Reason != leftClean {
		t.Errorf("got %d rows for %d records, the last %+v", n, acked, rows[n-1])
	}
}

func TestFilesAreTheOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	s := openOS(t, dir, Options{})
	mustAppend(t, s, read("a"))
	rows := rowsOf(t, s)
	c, err := s.Cursor(rows[1].Position())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	seen := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = fs.ModeDir | 0o700
		}
		if err == nil && info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
		seen++
		return err
	})
	if err != nil || seen != 5 { // directory, lock, identity, shipped, segment
		t.Errorf("saw %d files, %v", seen, err)
	}
	_ = s.Close()
	if err := os.Chmod(filepath.Join(dir, spoolDir, identityFile), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("a key that others can read: got %v, want ErrDamaged", err)
	}
}

// A start under a new identity leaves the old chain as it is.
func TestNewIdentity(t *testing.T) {
	dir := t.TempDir()
	s := openOS(t, dir, Options{NewIdentity: true})
	mustAppend(t, s, read("a"))
	was, key, first := s.Identity()
	if err := s.Close(); err != nil || !first {
		t.Fatalf("%v, first %v", err, first)
	}
	s = openOS(t, dir, Options{})
	if node, again, first := s.Identity(); node != was || again != key || first {
		t.Errorf("got another identity at the second start, first %v", first)
	}
	_ = s.Close()
	s = openOS(t, dir, Options{NewIdentity: true})
	node, other, first := s.Identity()
	if rows := rowsOf(t, s); node == was || other == key || !first || len(rows) != 1 || rows[0].Reason != leftFirst {
		t.Errorf("got %v, first %v, and rows %+v", node, first, rows)
	}
	old, err := filepath.Glob(filepath.Join(dir, spoolDir+".retired-*", "*"))
	if err != nil || len(old) != 3 {
		t.Errorf("got %v, %v, want the identity and two segments", old, err)
	}
}

// TestRefuse: nothing is recorded while it would be worth nothing, and Status says why.
func TestRefuse(t *testing.T) {
	s := openOS(t, t.TempDir(), Options{})
	mustAppend(t, s, read("before"))
	s.Refuse(ErrForked)
	if err := s.Append(t.Context(), []Record{read("meanwhile")}); !errors.Is(err, ErrForked) {
		t.Errorf("got %v, want %v", err, ErrForked)
	}
	if err := settle(s); err != nil {
		t.Error(err)
	}
	if err := s.Status().Err; !errors.Is(err, ErrForked) {
		t.Errorf("status: got %v, want %v", err, ErrForked)
	}
	s.Refuse(nil)
	mustAppend(t, s, read("after"))
	if err := s.Status().Err; err != nil {
		t.Errorf("status: %v", err)
	}
	for _, r := range rowsOf(t, s) {
		if r.Secret == "meanwhile" {
			t.Error("it was recorded")
		}
	}
}

// TestRemark: the record of a start says what its reader has to know.
func TestRemark(t *testing.T) {
	s := openOS(t, t.TempDir(), Options{Remark: "ship writes"})
	if err := settle(s); err != nil {
		t.Fatal(err)
	}
	if got, want := rowsOf(t, s)[0].Reason, "first; ship writes"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
