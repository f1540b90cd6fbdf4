// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// leave is a spool as a killed process leaves it: five records of one segment, each
// synced on its own or, unsynced, the last three together.
func leave(t *testing.T, unsynced bool) (*memSystem, *Spool) {
	t.Helper()
	sys := newMemSystem()
	s, err := Open(testRoot, Options{sys: sys})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		mustAppend(t, s, read(fmt.Sprintf("s/%d", i)))
		if i < 2 || !unsynced {
			if err := settle(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	next := sys.killed()
	_ = s.Close() // of the dead
	return next, s
}

// segmentOf is the content of a segment, to be changed.
func segmentOf(t *testing.T, sys *memSystem, number uint64) *memNode {
	t.Helper()
	n, err := sys.lookup("/node/audit/" + segmentName(number))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// frameEnds are the offsets at which the frames of a segment end.
func frameEnds(t *testing.T, b []byte) (ends []int) {
	t.Helper()
	for at := headerSize; at < len(b); {
		f, ok := parseFrame(b[at:])
		if !ok {
			t.Fatalf("no frame at %d", at)
		}
		at += f.size
		ends = append(ends, at)
	}
	return ends
}

// Every torn end is cut off, and the start says so.
func TestTornEnd(t *testing.T) {
	whole, _ := leave(t, false)
	content := segmentOf(t, whole, 1).data
	ends := frameEnds(t, content)
	last := ends[len(ends)-2]
	for size := last; size < len(content); size++ {
		for name, tail := range map[string][]byte{"short": nil, "zeros": make([]byte, 3*len(content)), "half": bytes.Repeat([]byte{0xa5}, 40)} {
			if rest := content[size:]; len(tail) > 0 && bytes.HasPrefix(tail, rest) {
				continue // as one hash of 256 ends: the record is whole
			}
			sys := whole.killed()
			n := segmentOf(t, sys, 1)
			n.data = append(bytes.Clone(content[:size]), tail...)
			torn := len(n.data) - last
			s, err := Open(testRoot, Options{sys: sys})
			if err != nil {
				t.Fatalf("%s at %d: %v", name, size, err)
			}
			rows := rowsOf(t, s)
			want := leftKilled
			if torn > 0 {
				want += fmt.Sprintf("; cut %d bytes behind record 5", torn)
			}
			if len(rows) != 6 || rows[4].Secret != "s/3" || rows[5].Reason != want {
				t.Fatalf("%s at %d: got %d rows, the last %+v, want %q", name, size, len(rows), rows[len(rows)-1], want)
			}
			_ = s.Close()
		}
	}
}

// A changed byte anywhere before the last record is damage, and where is said. A
// process that was killed leaves no other.
func TestDamageInTheMiddle(t *testing.T) {
	whole, _ := leave(t, true)
	content := segmentOf(t, whole, 1).data
	ends := frameEnds(t, content)
	from := headerSize
	for i, end := range ends[:len(ends)-1] {
		for at := from; at < end; at++ {
			sys := whole.killed()
			segmentOf(t, sys, 1).data[at] ^= 0x10
			_, err := Open(testRoot, Options{sys: sys})
			var e *Error
			if !errors.Is(err, ErrDamaged) || !errors.As(err, &e) || e.Offset != int64(from) || !strings.HasSuffix(e.Path, segmentName(1)) {
				t.Fatalf("record %d, byte %d: got %v, want ErrDamaged at offset %d", i+1, at, err, from)
			}
		}
		from = end
	}
	for at := range headerSize {
		sys := whole.killed()
		segmentOf(t, sys, 1).data[at] ^= 0x10
		if _, err := Open(testRoot, Options{sys: sys}); !errors.Is(err, ErrDamaged) {
			t.Fatalf("header, byte %d: got %v, want ErrDamaged", at, err)
		}
	}
}

// When the machine loses its page cache, what was not synced may have holes: those
// are torn ends, while a hole in what was is damage.
func TestHolesAfterACrash(t *testing.T) {
	whole, _ := leave(t, true)
	content := segmentOf(t, whole, 1).data
	ends := frameEnds(t, content)
	// The last frame but two knows of record 3 that it was synced.
	for i, want := range []error{0: ErrDamaged, 1: ErrDamaged, 2: ErrDamaged, 3: nil, 4: nil, 5: nil} {
		sys := whole.killed()
		sys.boot[0]++
		segmentOf(t, sys, 1).data[ends[i]-1] ^= 1
		s, err := Open(testRoot, Options{sys: sys})
		if !errors.Is(err, want) {
			t.Errorf("record %d: got %v, want %v", i+1, err, want)
		}
		if s == nil {
			continue
		}
		rows := rowsOf(t, s)
		if start := rows[len(rows)-1]; len(rows) != i+1 || !strings.HasPrefix(start.Reason, leftWindow+"; cut ") {
			t.Errorf("record %d: got %d rows, the last %+v", i+1, len(rows), start)
		}
		_ = s.Close()
	}
}

// What else can be wrong with a directory stops the start, and nothing is touched.
func TestWrongDirectories(t *testing.T) {
	world := func(t *testing.T) *memSystem {
		t.Helper()
		w, sys := newWorld(SyncBatch), newMemSystem()
		for i := range 3 {
			s, err := w.open(sys)
			if err != nil {
				t.Fatal(err)
			}
			_ = w.append(s, 3)
			_ = settle(s)
			if i == 0 {
				if err := w.ship(s); err != nil {
					t.Fatal(err)
				}
			}
			_ = s.Close()
		}
		return sys.killed()
	}
	file := func(sys *memSystem, name string) *memNode {
		n, err := sys.lookup("/node/audit/" + name)
		if err != nil {
			panic(err)
		}
		return n
	}
	remove := func(names ...string) func(*memSystem) {
		return func(sys *memSystem) {
			for _, name := range names {
				_ = sys.Remove("/node/audit/" + name)
			}
		}
	}
	for name, c := range map[string]struct {
		harm func(*memSystem)
		want string // empty: it opens
	}{
		"nothing":                    {func(*memSystem) {}, ""},
		"no identity":                {remove(identityFile), "identity"},
		"no mark":                    {remove(shippedFile), ""},
		"a middle segment is gone":   {remove(segmentName(2)), "segment 2 is missing"},
		"the first, not all shipped": {remove(segmentName(1)), "records 5 to 5 were not shipped"},
		"the first two":              {remove(segmentName(1), segmentName(2)), "records 5 to 10 were not shipped"},
		"all segments":               {remove(segmentName(1), segmentName(2), segmentName(3)), "no segment"},
		"an older state":             {remove(segmentName(2), segmentName(3)), ""},
		"older than what was shipped": {func(sys *memSystem) {
			remove(segmentName(2), segmentName(3))(sys)
			file(sys, shippedFile).data = shippedText(Position{Seq: 9})
		}, "an older state"},
		"another record was shipped": {func(sys *memSystem) { file(sys, shippedFile).data = shippedText(Position{Seq: 3}) }, "record 3 is not the one that was shipped"},
		"a mark of nonsense":         {func(sys *memSystem) { file(sys, shippedFile).data = []byte("seq 3\n") }, "not a mark"},
		"an identity of nonsense":    {func(sys *memSystem) { file(sys, identityFile).data = []byte("node x\n") }, "not the identity"},
		"another identity":           {func(sys *memSystem) { file(sys, identityFile).data = newIdentity().text() }, "of node"},
		"another key": {func(sys *memSystem) {
			id, err := readIdentity(sys, "/node/audit")
			if err != nil {
				panic(err)
			}
			id.key = newIdentity().key
			file(sys, identityFile).data = id.text()
		}, "is not this node's"},
		"a segment under another number": {func(sys *memSystem) {
			file(sys, segmentName(3)).data = bytes.Clone(file(sys, segmentName(2)).data)
		}, "it is segment 2"},
		"a segment that was cut":           {func(sys *memSystem) { n := file(sys, segmentName(2)); n.data = n.data[:len(n.data)-300] }, "it ends here"},
		"an empty segment":                 {func(sys *memSystem) { file(sys, segmentName(3)).data = nil }, "header is not whole"},
		"a byte in an older segment":       {func(sys *memSystem) { file(sys, segmentName(2)).data[headerSize+40] ^= 1 }, "record 6 is not whole"},
		"a record with a new checksum":     {func(sys *memSystem) { forge(file(sys, segmentName(2)).data) }, "does not continue the chain"},
		"left over files":                  {func(sys *memSystem) { _, _ = sys.Create("/node/audit/" + segmentName(4) + tmpSuffix) }, ""},
		"an identity that others can read": {func(sys *memSystem) { file(sys, identityFile).mode = 0o644 }, "chmod 600"},
	} {
		sys := world(t)
		c.harm(sys)
		before := sys.killed()
		sys = before.killed()
		s, err := Open(testRoot, Options{sys: sys})
		if s != nil {
			_ = s.Close()
		}
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: got %v, want it to open", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, new(*Error)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		same(t, name, before.root, sys.root)
	}
}

// forge changes the first record of a segment and gives it a right checksum.
func forge(b []byte) {
	b = b[headerSize:]
	f, _ := parseFrame(b)
	for f.kind != frameRecord {
		b = b[f.size:]
		f, _ = parseFrame(b)
	}
	body := bytes.Clone(f.body)
	body[len(body)-1]++
	copy(b, appendFrame(nil, f.kind, f.synced, body, f.tail))
}

func same(t *testing.T, name string, a, b *memNode) {
	t.Helper()
	if !bytes.Equal(a.data, b.data) || len(a.entries) != len(b.entries) {
		t.Errorf("%s: something was written", name)
		return
	}
	for entry := range a.entries {
		if b.entries[entry] == nil {
			t.Errorf("%s: %s is gone", name, entry)
			continue
		}
		same(t, name, a.entries[entry], b.entries[entry])
	}
}
