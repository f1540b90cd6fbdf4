// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
)

// rest reads what there is from here on.
func (r *Reader) rest(t *testing.T) (rows []Row) {
	t.Helper()
	for {
		row, head, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return rows
		case err != nil:
			t.Fatal(err)
		case head == nil:
			rows = append(rows, row)
		}
	}
}

func mustRead(t *testing.T, sys system) *Reader {
	t.Helper()
	r, err := openReader(testRoot, sys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[path] = fmt.Sprint(info.Mode(), info.ModTime(), string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A spool is read beside its node, without the key and without a change.
func TestReaderChangesNothing(t *testing.T) {
	dir := t.TempDir()
	s := openOS(t, dir, Options{})
	mustAppend(t, s, read("a"), strange())
	rows := rowsOf(t, s)
	if err := os.Chmod(filepath.Join(dir, spoolDir, identityFile), 0); err != nil {
		t.Fatal(err)
	}
	node, key, _ := s.Identity()
	for _, dir := range []string{dir, filepath.Join(dir, spoolDir)} {
		before := tree(t, dir)
		r, err := OpenReader(dir)
		if err != nil {
			t.Fatal(err)
		}
		e, err := r.Evidence(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := collect(t, e.Rows); r.Node() != node || !reflect.DeepEqual(got, rows) {
			t.Errorf("got %v and %+v, want %v and %+v", r.Node(), got, node, rows)
		}
		if after := tree(t, dir); !reflect.DeepEqual(after, before) {
			t.Error("the directory has changed")
		}
	}
	_ = s.Close()
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	e, err := r.Evidence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	report, err := e.Verify(t.Context(), Demands{Trust: Trust{node: {key}}})
	if err != nil || !report.OK() || report.Nodes[0] != (NodeReport{node, 1, 4, 4}) {
		t.Errorf("got %+v, %v, want four proven records", report, err)
	}
	if _, err := OpenReader(t.TempDir()); !errors.Is(err, ErrDamaged) {
		t.Errorf("an empty directory: got %v, want that it is no spool", err)
	}
}

// What is written again after a fault is handed out once, also to who follows.
func TestReaderFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newMemSystem()
		s := openMem(t, sys, Options{SegmentBytes: 1 << 10})
		defer s.Close()
		r := mustRead(t, sys)
		var got []Row
		for i := range 40 {
			mustAppend(t, s, read(fmt.Sprintf("s/%d", i)))
			if err := r.Look(); err != nil {
				t.Fatal(err)
			}
			got = append(got, r.rest(t)...)
			switch i % 10 {
			case 3:
				_ = settle(s)
			case 7: // it goes on in another segment
				sys.on(func(op, path string) fate {
					if op == "sync" && strings.Contains(path, segmentSuffix) {
						sys.call = nil
						return fate{err: syscall.EIO}
					}
					return fate{}
				})
				_ = settle(s)
			}
		}
		want := rowsOf(t, s)
		if err := r.Look(); err != nil {
			t.Fatal(err)
		}
		if got = append(got, r.rest(t)...); !reflect.DeepEqual(got, want) {
			t.Errorf("got %d rows, want %d", len(got), len(want))
		}
		if n := s.Status().Segments; n < 6 {
			t.Errorf("got %d segments, want some after faults and some that were full", n)
		}
		r.Back(5)
		if last := r.rest(t); len(last) < 5 || len(last) > 20 || !slices.Equal(last, want[len(want)-len(last):]) {
			t.Errorf("got %d of the last rows, want 5 or some more", len(last))
		}
		r.Rewind()
		if again := r.rest(t); !slices.Equal(again, want) {
			t.Errorf("got %d rows again, want %d", len(again), len(want))
		}
	})
}

// TestReaderForgets: files that say of nothing that it is durable take no more memory
// than a segment does.
func TestReaderForgets(t *testing.T) {
	sys := newMemSystem()
	s := openMem(t, sys, Options{SegmentBytes: 1})
	for range 20 {
		mustAppend(t, s, read("a"))
		if err := settle(s); err != nil {
			t.Fatal(err)
		}
	}
	want := rowsOf(t, s)
	_ = s.Close()
	for i := range s.Status().Segments {
		b := segmentOf(t, sys, uint64(i)+1).data
		at := headerSize
		for _, end := range frameEnds(t, b) {
			copy(b[at+8:], make([]byte, 8))
			binary.BigEndian.PutUint32(b[at:], crc32.Checksum(b[at+4:end], castagnoli))
			at = end
		}
	}
	r := mustRead(t, sys)
	if got := r.rest(t); len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		t.Errorf("got %d rows, want %d and the stop", len(got), len(want))
	}
	if len(r.loose) > 3 {
		t.Errorf("%d records are remembered, want those of the last segment", len(r.loose))
	}
}

// A torn end is where it ends; damage elsewhere is a finding that says where.
func TestReaderFindsDamage(t *testing.T) {
	whole, s := leave(t, true)
	content := segmentOf(t, whole, 1).data
	ends := frameEnds(t, content)
	node, key, _ := s.Identity()
	verify := func(sys system) (*Report, error) {
		e, err := mustRead(t, sys).Evidence(t.Context())
		if err != nil {
			return nil, err
		}
		return e.Verify(t.Context(), Demands{Trust: Trust{node: {key}}})
	}
	for _, size := range []int{ends[len(ends)-2], ends[len(ends)-2] + 1, len(content) - 1} {
		sys := whole.killed()
		segmentOf(t, sys, 1).data = bytes.Clone(content[:size])
		if got := mustRead(t, sys).rest(t); len(got) != 5 {
			t.Errorf("cut at %d: got %d rows, want 5", size, len(got))
		}
	}
	for i, end := range ends[:len(ends)-1] {
		sys := whole.killed()
		segmentOf(t, sys, 1).data[end-1] ^= 1
		report, err := verify(sys)
		if err != nil || report.Findings[0].Kind != Damaged || !strings.Contains(report.Findings[0].Detail, fmt.Sprintf("record %d is not whole", i+1)) {
			t.Errorf("record %d: got %+v, %v", i+1, report, err)
		}
	}
	crashed := whole.killed()
	crashed.boot[0]++
	segmentOf(t, crashed, 1).data[ends[3]] ^= 1
	if got := mustRead(t, crashed).rest(t); len(got) != 4 {
		t.Errorf("a hole after a crash: got %d rows, want 4", len(got))
	}
}

func TestReaderOfWrongDirectories(t *testing.T) {
	world := func(t *testing.T) *memSystem {
		t.Helper()
		w, sys := newWorld(SyncBatch), newMemSystem()
		for range 3 {
			s, err := w.open(sys)
			if err != nil {
				t.Fatal(err)
			}
			_ = w.append(s, 3)
			_ = s.Close()
		}
		return sys.killed()
	}
	for name, c := range map[string]struct {
		harm func(*memSystem)
		want string // empty: it is read
	}{
		"nothing":         {func(*memSystem) {}, ""},
		"the first":       {func(sys *memSystem) { _ = sys.Remove("/node/audit/" + segmentName(1)) }, ""},
		"a middle one":    {func(sys *memSystem) { _ = sys.Remove("/node/audit/" + segmentName(2)) }, "segment 2 is missing"},
		"all":             {func(sys *memSystem) { _ = sys.Remove("/node/audit") }, "no segment"},
		"a header":        {func(sys *memSystem) { segmentOf(t, sys, 3).data[50] ^= 1 }, "checksum"},
		"half a header":   {func(sys *memSystem) { n := segmentOf(t, sys, 3); n.data = n.data[:50] }, "header is not whole"},
		"another's chain": {func(sys *memSystem) { segmentOf(t, sys, 1).data = segmentOf(t, world(t), 1).data }, "does not follow"},
	} {
		t.Run(name, func(t *testing.T) {
			sys := world(t)
			c.harm(sys)
			_, err := openReader(testRoot, sys)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// readBack finds in the files what was shipped of them.
func (w *world) readBack(t *testing.T, sys system) {
	t.Helper()
	rows := mustRead(t, sys).rest(t)
	if len(rows) == 0 || rows[len(rows)-1].Position() != w.mark {
		t.Errorf("got %d rows, want those up to record %d", len(rows), w.mark.Seq)
	}
	for i, r := range rows {
		if r != w.known[r.Seq] || i > 0 && r.Seq != rows[i-1].Seq+1 {
			t.Fatalf("read %+v, want %+v", r, w.known[r.Seq])
		}
	}
}
