// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata anew")

var (
	testNode = NodeID{0x6f, 0x1c, 0x2a, 0x30, 1, 2, 0x43, 4, 0x85, 6, 7, 8, 9, 10, 11, 12}
	testID   = &identity{testNode, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))}
	testTime = time.UnixMicro(1_790_000_000_000001).UTC()

	vectorRecords = []Record{
		{At: testTime, Face: FaceNode, Action: ActionStart, Outcome: OutcomeOK, Reason: leftFirst},
		{
			At: testTime.Add(time.Second), Actor: "ann", SessionRole: "app", Addr: netip.MustParseAddr("192.0.2.7"), Face: FaceSQL, Database: "app",
			Action: ActionRead, Secret: "db/password", Version: 3, Outcome: OutcomeOK, Direct: true, Statement: 0x8d7a_0000_0000_0c01,
		},
		{
			At: testTime.Add(2 * time.Second), Actor: "backup-token", Addr: netip.MustParseAddr("2001:db8::1"), Face: FaceREST,
			Action: ActionUpdate, Secret: "Größe", Version: 1<<31 - 1, Outcome: OutcomeDenied, Reason: "forbidden", Change: 1<<63 - 1, Statement: 1<<64 - 1,
		},
	}
)

// vectors is a segment of format 1 and what is in it, for other implementations.
func vectors() string {
	var b strings.Builder
	h := header{node: testNode, number: 1, boot: bootID{0xb0, 0x07}, created: testTime, mode: SyncAlways}
	content := h.append(nil)
	fmt.Fprintf(&b, "# docs/AUDIT.md. The node's key has the seed 07 07 … 07.\nnode %v\nkey %s\nheader %x\n", testNode, fingerprint(testID.public()), content)
	link, last := newLinker(), Position{}
	for i := range vectorRecords {
		body, hash := link.record(&vectorRecords[i], testNode, last.Seq+1, last.Hash)
		frame := appendFrame(nil, frameRecord, last.Seq, body, hash[:])
		fmt.Fprintf(&b, "\nrecord %d\nbody %x\nprev %v\nhash %v\nframe %x\n", last.Seq+1, body, last.Hash, hash, frame)
		last = Position{last.Seq + 1, hash}
	}
	head := testID.sign(last, testTime.Add(3*time.Second))
	fmt.Fprintf(&b, "\nhead %d\nsigned %x\nsignature %x\nframe %x\n", head.Seq, head.signed(), head.Signature,
		appendFrame(nil, frameHead, last.Seq, head.appendBody(nil), head.Signature[:]))
	return b.String()
}

// The format cannot change without being seen to.
func TestVectors(t *testing.T) {
	const path = "testdata/vectors.txt"
	got := vectors()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// vectorBytes are the values of a name in the vectors.
func vectorBytes(tb testing.TB, name string) (values [][]byte) {
	tb.Helper()
	for line := range strings.Lines(vectors()) {
		if digits, ok := strings.CutPrefix(line, name+" "); ok {
			b, err := hex.DecodeString(strings.TrimSpace(digits))
			if err != nil {
				tb.Fatal(err)
			}
			values = append(values, b)
		}
	}
	return values
}

func TestDecodeIsStrict(t *testing.T) {
	for i, body := range vectorBytes(t, "body") {
		row, err := decodeBody(body, new(texts))
		if err != nil || row.Record != vectorRecords[i] || row.Node != testNode || row.Seq != uint64(i)+1 {
			t.Errorf("got %+v, %v, want %+v", row, err, vectorRecords[i])
		}
		for n := range body {
			if _, err := decodeBody(body[:n], new(texts)); !errors.Is(err, ErrRecord) {
				t.Errorf("%d bytes of record %d: got %v, want ErrRecord", n, i+1, err)
			}
		}
		if _, err := decodeBody(append(bytes.Clone(body), 0), new(texts)); !errors.Is(err, ErrRecord) {
			t.Errorf("a byte behind: got %v, want ErrRecord", err)
		}
	}
	good := Row{Node: testNode, Seq: 1, Record: vectorRecords[1]}
	for name, harm := range map[string]func(*Row){
		"number 0":         func(r *Row) { r.Seq = 0 },
		"number 2^63":      func(r *Row) { r.Seq = 1 << 63 },
		"no time":          func(r *Row) { r.At = time.UnixMicro(0) },
		"the year 10000":   func(r *Row) { r.At = time.UnixMicro(maxMicros + 1) },
		"negative version": func(r *Row) { r.Version = -1 },
		"negative change":  func(r *Row) { r.Change = -1 },
		"no face":          func(r *Row) { r.Face = "" },
		"a long action":    func(r *Row) { r.Action = Action(strings.Repeat("a", maxWord+1)) },
		"a capital":        func(r *Row) { r.Outcome = "Ok" },
		"not UTF-8":        func(r *Row) { r.Actor = "\xff" },
		"a zero byte":      func(r *Row) { r.Secret = "a\x00" },
		"a long text":      func(r *Row) { r.Reason = strings.Repeat("a", MaxText+1) },
		"a mapped address": func(r *Row) { r.Addr = netip.MustParseAddr("::ffff:1.2.3.4") },
	} {
		r := good
		harm(&r)
		if _, err := decodeBody(r.appendBody(nil, r.Node, r.Seq), new(texts)); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: got %v, want ErrRecord", name, err)
		}
	}
	two := good.appendBody(nil, good.Node, good.Seq)
	two[len(two)-2*(4+8)-4-1] = 2 // direct
	if _, err := decodeBody(two, new(texts)); !errors.Is(err, ErrRecord) {
		t.Errorf("direct = 2: got %v, want ErrRecord", err)
	}
}

func TestLongestRecord(t *testing.T) {
	text := strings.Repeat("a", MaxText)
	word := strings.Repeat("a", maxWord)
	r := Record{
		At: testTime, Actor: text, SessionRole: text, Addr: netip.MustParseAddr("::1"), Face: Face(word), Database: text, Action: Action(word),
		Secret: text, Outcome: Outcome(word), Reason: text,
	}
	if err := r.check(); err != nil {
		t.Fatal(err)
	}
	if got := len(r.appendBody(nil, testNode, 1)); got != maxBody {
		t.Errorf("got %d bytes, want %d", got, maxBody)
	}
	r = Record{At: testTime, Face: "a", Action: "a", Outcome: "a"}
	if got := len(r.appendBody(nil, testNode, 1)); got != minBody {
		t.Errorf("got %d bytes, want %d", got, minBody)
	}
	h := testID.sign(Position{Seq: 1}, testTime)
	if got := len(h.appendBody(nil)); got != headBody {
		t.Errorf("got %d bytes of a head, want %d", got, headBody)
	}
}

// FuzzRecord: what is accepted has one spelling.
func FuzzRecord(f *testing.F) {
	for _, body := range vectorBytes(f, "body") {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		row, err := decodeBody(body, new(texts))
		if err != nil {
			if !errors.Is(err, ErrRecord) {
				t.Fatalf("got %v, want ErrRecord", err)
			}
			return
		}
		if again := row.appendBody(nil, row.Node, row.Seq); !bytes.Equal(again, body) {
			t.Fatalf("got %x back", again)
		}
	})
}

// FuzzSegment: whatever is in a segment, reading it ends, what is accepted
// continues a chain, and what is behind is torn or damaged.
func FuzzSegment(f *testing.F) {
	content := bytes.Join(append(vectorBytes(f, "header"), vectorBytes(f, "frame")...), nil)
	f.Add(content, true)
	f.Add(content[:len(content)-1], false)
	f.Fuzz(func(t *testing.T, content []byte, fix bool) {
		if len(content) < headerSize {
			return
		}
		if fix {
			fixSums(content)
		}
		h, err := decodeHeader(content[:headerSize])
		if err != nil {
			return
		}
		if !bytes.Equal(h.append(nil), content[:headerSize]) {
			t.Fatal("the header has another spelling")
		}
		scan := newScanner(bytes.NewReader(content), "fuzz", &h, int64(len(content)))
		last, at := h.start, scan.pos
		for {
			row, head, err := scan.next()
			if err != nil {
				if scan.pos != at || scan.last != last {
					t.Fatal("the scanner moved over what it refused")
				}
				if errors.Is(err, errNoFrame) {
					_ = scan.torn(true)
					_ = scan.torn(false)
				}
				return
			}
			if scan.pos <= at || head == nil && (row.Seq != last.Seq+1 || row.Prev != last.Hash || scan.last != row.Position()) {
				t.Fatalf("got %+v behind %+v", row, last)
			}
			last, at = scan.last, scan.pos
		}
	})
}

// fixSums gives what looks like frames right checksums, which a mutation seldom
// leaves.
func fixSums(b []byte) {
	sum := func(b []byte) []byte { return binary.BigEndian.AppendUint32(nil, crc32.Checksum(b, castagnoli)) }
	copy(b[headerSize-4:], sum(b[:headerSize-4]))
	for at := headerSize; at+frameHeader <= len(b); {
		f, _ := parseFrame(b[at:])
		if f.size == 0 || at+f.size > len(b) {
			return
		}
		copy(b[at:], sum(b[at+4:at+f.size]))
		at += f.size
	}
}
