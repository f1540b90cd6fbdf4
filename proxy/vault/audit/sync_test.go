// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Whoever appends while a sync is under way shares the next one.
func TestAlwaysGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		s, err := Open(testRoot, Options{Sync: SyncAlways, sys: g})
		if err != nil {
			t.Fatal(err)
		}
		g.watch("sync")
		defer s.Close()
		var done sync.WaitGroup
		results := make(chan error, 11)
		appendOne := func() { results <- s.Append(t.Context(), []Record{read("a")}) }
		done.Go(appendOne)
		<-g.reached
		for range 10 {
			done.Go(appendOne)
		}
		synctest.Wait()
		if len(results) != 0 {
			t.Fatal("an Append returned before it was durable")
		}
		g.through <- nil
		<-g.reached
		synctest.Wait()
		if len(results) != 1 {
			t.Fatalf("%d Appends returned after the first sync, want 1", len(results))
		}
		if got := s.Status().Durable; got != 2 {
			t.Errorf("got %d durable records, want the start and the first", got)
		}
		g.watch("")
		g.through <- nil
		done.Wait()
		for range 11 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if got := s.Status().Durable; got != 12 {
			t.Errorf("got %d durable records, want 12", got)
		}
	})
}

// A sync that fails is not tried again: what it should have made durable is written
// to another segment.
func TestFailedSyncIsNotTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		s, err := Open(testRoot, Options{Sync: SyncAlways, sys: g})
		if err != nil {
			t.Fatal(err)
		}
		g.watch("sync")
		result := make(chan error, 1)
		go func() { result <- s.Append(t.Context(), []Record{read("a")}) }()
		<-g.reached
		g.through <- syscall.EIO
		<-g.reached // of the next segment
		g.through <- nil
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		if st := s.Status(); st.Segments != 2 || st.Durable != 2 || st.Err != nil {
			t.Errorf("got %+v, want two segments and no fault", st)
		}
		go func() { result <- s.Append(t.Context(), []Record{read("b"), read("c")}) }()
		<-g.reached
		g.through <- syscall.EIO
		<-g.reached
		g.watch("")
		g.through <- syscall.EIO
		if err := <-result; !errors.Is(err, syscall.EIO) || !errors.As(err, new(*Error)) {
			t.Fatalf("got %v, want an *Error with EIO", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		next, err := Open(testRoot, Options{sys: g.crashed(nil)})
		if err != nil {
			t.Fatal(err)
		}
		defer next.Close()
		rows := rowsOf(t, next)
		if len(rows) != 3 || rows[1].Secret != "a" || rows[2].Action != ActionStart {
			t.Errorf("got %+v, want the start, a and the next start", rows)
		}
	})
}

// What is appended in batch mode is synced at most 50 ms later, also while others
// go on appending, where a sync takes no time.
func TestBatchWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newMemSystem()
		var written time.Time // the oldest write that is not synced
		longest := time.Duration(0)
		s, err := Open(testRoot, Options{sys: sys})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		sys.on(func(op, _ string) fate {
			switch {
			case op == "write" && written.IsZero():
				written = time.Now()
			case op == "sync" && !written.IsZero():
				longest = max(longest, time.Since(written))
				written = time.Time{}
			}
			return fate{}
		})
		for range 1000 {
			mustAppend(t, s, read("a"))
			<-time.After(time.Millisecond)
		}
		<-time.After(time.Second)
		sys.on(nil)
		if !written.IsZero() || longest == 0 || longest > 50*time.Millisecond {
			t.Errorf("a record waited %v for its sync, nothing waits: %v", longest, written.IsZero())
		}
	})
}

// What is appended while segments are deleted waits for one of them, not for all.
func TestDeletingKeepsNobodyWaiting(t *testing.T) {
	for _, mode := range []Sync{SyncBatch, SyncAlways} {
		synctest.Test(t, func(t *testing.T) {
			w, g := newWorld(mode), newGate()
			s, err := w.open(g)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for range 6 { // a segment each
				if err := w.append(s, 20); err != nil {
					t.Fatal(err)
				}
				if err := settle(s); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.ship(s); err != nil {
				t.Fatal(err)
			}
			g.watch("remove")
			<-g.reached
			before := s.Status()
			const deleted = 5
			appended := make(chan error, deleted)
			for i := range uint64(deleted) {
				go func() { appended <- s.Append(t.Context(), []Record{read("a")}) }()
				synctest.Wait()
				g.through <- nil
				if i == deleted-1 {
					break
				}
				<-g.reached // the next one is about to be deleted
				if got := s.Status().Durable; got != before.Durable+i+1 {
					t.Errorf("%v: record %d is durable before segment %d is deleted, want %d", mode, got, i+2, before.Durable+i+1)
				}
			}
			g.watch("")
			for range deleted {
				if err := <-appended; err != nil {
					t.Error(err)
				}
			}
			synctest.Wait()
			if got := s.Status().Segments; got > before.Segments-deleted {
				t.Errorf("%v: %d segments are left of %d, want %d less", mode, got, before.Segments, deleted)
			}
		})
	}
}

// Who appends faster than the disk takes it waits for the disk.
func TestMemoryIsBounded(t *testing.T) {
	for _, sync := range []Sync{SyncBatch, SyncAlways} {
		t.Run(sync.String(), func(t *testing.T) { memoryIsBounded(t, sync) })
	}
}

func memoryIsBounded(t *testing.T, sync Sync) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		s, err := Open(testRoot, Options{Sync: sync, SegmentBytes: 1 << 30, sys: g})
		if err != nil {
			t.Fatal(err)
		}
		g.watch("sync")
		defer s.Close()
		records := make([]Record, 1024)
		for i := range records {
			records[i] = read(strings.Repeat("x", MaxText))
		}
		returned := 0
		result := make(chan error)
		go func() {
			for range 100 {
				result <- s.Append(t.Context(), records)
			}
		}()
		<-g.reached
		for waits := false; !waits; synctest.Wait() {
			select {
			case err := <-result:
				if err != nil {
					t.Fatal(err)
				}
				returned++
			default:
				waits = true
			}
		}
		if bytes := returned * len(records) * 450; sync == SyncBatch && returned < 3 || bytes > 2*maxUnsynced {
			t.Errorf("%d Appends of %d records did not wait", returned, len(records))
		}
		for range 20 { // who gives up has left nothing behind
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := s.Append(ctx, records); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want the end of its time", err)
			}
			cancel()
		}
		s.turn <- struct{}{}
		if bytes := len(s.unsynced); bytes > maxUnsynced+1<<20 { // one append is half of that
			t.Errorf("%d bytes wait for the disk", bytes)
		}
		<-s.turn
		g.through <- nil
		if err := <-result; err != nil { // who waits, waits for no other sync
			t.Fatal(err)
		}
		<-g.reached
		g.watch("")
		g.through <- nil
		for range 100 - returned - 1 {
			if err := <-result; err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A segment that somebody takes away or cuts is noticed, and nothing is appended
// until a start has looked at what is left.
func TestReplacedSegment(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"deleted":   os.Remove,
		"truncated": func(path string) error { return os.Truncate(path, headerSize) },
		"replaced": func(path string) error {
			b, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path+"x", b, 0o600)
			}
			if err == nil {
				err = os.Rename(path+"x", path)
			}
			return err
		},
	} {
		for mode, sync := range map[string]Sync{"batch": SyncBatch, "always": SyncAlways} {
			t.Run(name+" "+mode, func(t *testing.T) {
				dir := t.TempDir()
				s := openOS(t, dir, Options{Sync: sync})
				mustAppend(t, s, read("a"))
				if err := harm(filepath.Join(dir, spoolDir, segmentName(1))); err != nil {
					t.Fatal(err)
				}
				if sync == SyncBatch { // what is written before the next sync may still be taken
					if err := s.Append(t.Context(), []Record{read("b")}); err != nil && !errors.Is(err, ErrReplaced) {
						t.Errorf("got %v, want ErrReplaced", err)
					}
					if err := s.Sync(t.Context()); !errors.Is(err, ErrReplaced) {
						t.Errorf("Sync: got %v, want ErrReplaced", err)
					}
				}
				for range 3 {
					if err := s.Append(t.Context(), []Record{read("b")}); !errors.Is(err, ErrReplaced) {
						t.Errorf("got %v, want ErrReplaced", err)
					}
				}
				if err := s.Close(); !errors.Is(err, ErrReplaced) {
					t.Errorf("Close: got %v, want ErrReplaced", err)
				}
			})
		}
	}
}

// A disk that is full, or read-only, refuses everything and loses nothing.
func TestFullDisk(t *testing.T) {
	for _, errno := range []error{syscall.ENOSPC, syscall.EROFS} {
		for _, mode := range []Sync{SyncBatch, SyncAlways} {
			synctest.Test(t, func(t *testing.T) {
				w, sys := newWorld(mode), newMemSystem()
				s, err := w.open(sys)
				if err != nil {
					t.Fatal(err)
				}
				for range 3 {
					if err := w.append(s, 2); err != nil {
						t.Fatal(err)
					}
				}
				sys.on(func(op, _ string) fate {
					if op == "write" || op == "create" {
						return fate{err: errno, half: op == "write"}
					}
					return fate{}
				})
				for range 3 {
					if err := w.append(s, 2); !errors.Is(err, errno) || !errors.As(err, new(*Error)) {
						t.Errorf("got %v, want an *Error with %v", err, errno)
					}
				}
				if st := s.Status(); !errors.Is(st.Err, errno) {
					t.Errorf("got status %+v, want %v", st, errno)
				}
				<-time.After(time.Minute)
				sys.on(nil)
				if err := w.append(s, 2); err != nil {
					t.Errorf("there is space again: %v", err)
				}
				if st := s.Status(); st.Err != nil {
					t.Errorf("got status %+v, want no fault", st)
				}
				for name := range w.acked {
					w.acked[name] = true
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				w.check(t, sys.crashed(nil), true)
			})
		}
	}
}

func TestLowSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newMemSystem()
		s, err := Open(testRoot, Options{LowSpace: 1000, sys: sys})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, free := range []uint64{5000, 999, 1000} {
			sys.mu.Lock()
			sys.free = free
			sys.mu.Unlock()
			<-time.After(tick + time.Second)
			if st := s.Status(); st.Free != free || st.Low != (free < 1000) {
				t.Errorf("%d free: got %+v", free, st)
			}
		}
	})
}

func TestClockSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, sys := newWorld(SyncBatch), newMemSystem()
		s, err := w.open(sys)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, step := range []time.Duration{0, -time.Hour, 2 * time.Hour, 500 * time.Millisecond} {
			sys.mu.Lock()
			sys.step += step
			sys.mu.Unlock()
			<-time.After(2*tick + time.Second)
			mustAppend(t, s, read("a"))
		}
		if err := settle(s); err != nil {
			t.Fatal(err)
		}
		if err := w.ship(s); err != nil {
			t.Fatal(err)
		}
		report, err := verifyChains(t.Context(), w.rows(), w.trust, w.heads)
		if err != nil || !report.OK() || len(report.Notes) != 2 {
			t.Fatalf("got %+v, %v, want two notes", report, err)
		}
		for i, want := range []string{"-3600s", "7200s"} {
			if n := report.Notes[i]; n.Kind != Clock || !strings.Contains(n.Detail, want) {
				t.Errorf("got %v, want %s", n, want)
			}
		}
	})
}

func TestSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(testRoot, Options{Sync: SyncBatch, sys: newMemSystem()})
		if err != nil {
			t.Fatal(err)
		}
		for seq := uint64(2); seq < 5; seq++ {
			if err := s.Append(t.Context(), []Record{{Face: FaceSQL, Action: ActionRead, Outcome: OutcomeOK}}); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time there is nothing to do
				if err := s.Sync(t.Context()); err != nil || s.Status().Durable != seq {
					t.Errorf("%v: record %d is durable, want %d", err, s.Status().Durable, seq)
				}
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}
