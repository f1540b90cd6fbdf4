// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestTransparency sends what testdata/transcripts/*.txt say, byte for byte, to
// the server and to its node: the answers must be the same bytes. Each is sent
// three times to the node: as written, a byte at a time, and all in one write.
func TestTransparency(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("transcripts: got %d, %v", len(files), err)
	}
	conn := super(t)
	cluster.Exec(t, conn, `CREATE TABLE transparent (n int PRIMARY KEY, t text, b bytea);
		CREATE TYPE transparent_pair AS (a int, b text);
		GRANT ALL ON transparent TO PUBLIC`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, transcript := range strings.Split(string(text), "\n\n") {
			steps, err := parseTranscript(transcript)
			if err != nil {
				t.Fatalf("%s, %d: %v", file, i+1, err)
			}
			if len(steps) == 0 {
				continue
			}
			name := strings.TrimSuffix(filepath.Base(file), ".txt")
			t.Run(fmt.Sprintf("%s %d", name, i+1), func(t *testing.T) { compareTranscript(t, steps) })
		}
	}
}

func compareTranscript(t *testing.T, steps []step) {
	t.Helper()
	want := play(t, shared.DirectDSN(0, shared.User), steps, whole)
	for _, way := range []sendWay{whole, byByte, atOnce} {
		if way == atOnce && !pipelines(steps) {
			continue
		}
		got := play(t, shared.DSN(0, shared.User), steps, way)
		for i := range max(len(got), len(want)) {
			if i == len(got) || i == len(want) || got[i] != want[i] {
				t.Errorf("%s: from message %d on: got %.500q, want %.500q", way, i+1, got[min(i, len(got)):], want[min(i, len(want)):])
				break
			}
		}
	}
}

// A step is some messages and the number of ReadyForQuery to wait for.
type step struct {
	bytes []byte
	wait  int // ReadyForQuery; -1: the end of the connection; -2: an answer to Flush, of flush messages
	flush int
}

type sendWay string

const (
	whole  sendWay = "a write for each step"
	byByte sendWay = "a byte for each write"
	atOnce sendWay = "all in one write"
)

// pipelines tells whether the steps may be sent without reading in between:
// those that wait for a Flush are the client's own choice of when to go on.
func pipelines(steps []step) bool {
	for _, s := range steps {
		if s.wait == -1 {
			return false
		}
	}
	return true
}

// play sends the steps and collects every answer.
func play(t *testing.T, dsn string, steps []step, way sendWay) []string {
	t.Helper()
	c := dial(t, dsn)
	var got []string
	if way == atOnce {
		var all []byte
		for _, s := range steps {
			all = append(all, s.bytes...)
		}
		if err := c.Write(all); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range steps {
		switch way { //nolint:exhaustive // atOnce has been sent above
		case whole:
			if err := c.Write(s.bytes); err != nil {
				t.Fatal(err)
			}
		case byByte:
			if err := c.Net.(*net.TCPConn).SetNoDelay(true); err != nil {
				t.Fatal(err)
			}
			for _, b := range s.bytes {
				if err := c.Write([]byte{b}); err != nil {
					break // the other side has seen enough: its answer is compared
				}
			}
		}
		got = append(got, answers(t, c, s)...)
	}
	return got
}

// answers reads what a step waits for: type and body of each message.
func answers(t *testing.T, c *rawpg.Conn, s step) (got []string) {
	t.Helper()
	for ready := 0; ; {
		m, err := c.Receive()
		if err != nil {
			if s.wait == -1 && (errors.Is(err, io.EOF) || strings.Contains(err.Error(), "reset")) {
				return append(got, "the end")
			}
			t.Fatalf("after %.500q: %v", got, err)
		}
		got = append(got, string(m.Type)+string(sameEachTime(t, m)))
		if m.Type == 'Z' {
			ready++
		}
		if s.wait > 0 && ready == s.wait || s.wait == -2 && len(got) == s.flush {
			return got
		}
	}
}

// sameEachTime is a message's body without what differs from run to run: the
// sender of a notification, the OID of a table made just now, and the line of
// PostgreSQL's source that raised an error (a portal that the node has
// described first fails there).
func sameEachTime(t *testing.T, m rawpg.Message) []byte {
	t.Helper()
	switch m.Type {
	case 'A':
		return append([]byte{0, 0, 0, 0}, m.Body[4:]...)
	case 'T':
		var d pgproto3.RowDescription
		if err := d.Decode(m.Body); err != nil {
			t.Fatal(err)
		}
		for i := range d.Fields {
			d.Fields[i].TableOID = 0
		}
		b, err := d.Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b[5:]
	case 'E':
		var kept [][]byte
		for _, f := range bytes.Split(m.Body, []byte{0}) {
			if len(f) > 0 && (f[0] == 'F' || f[0] == 'L' || f[0] == 'R') {
				continue
			}
			kept = append(kept, f)
		}
		return bytes.Join(kept, []byte{0})
	}
	return m.Body
}

// parseTranscript reads one message a line; see testdata/transcripts/README.md.
func parseTranscript(text string) ([]step, error) {
	var steps []step
	var cur step
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		words, err := splitWords(line)
		if err != nil {
			return nil, err
		}
		if words[0] == "wait" {
			if err := cur.end(words[1:]); err != nil {
				return nil, err
			}
			steps, cur = append(steps, cur), step{}
			continue
		}
		if cur.bytes, err = appendLine(cur.bytes, words); err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
	}
	if len(cur.bytes) > 0 {
		return nil, errors.New("no wait at the end")
	}
	return steps, nil
}

// end reads "wait", "wait N", "wait flush N" and "wait end".
func (s *step) end(words []string) (err error) {
	s.wait = 1
	switch {
	case len(words) == 0:
	case words[0] == "end":
		s.wait = -1
	case words[0] == "flush":
		s.wait = -2
		s.flush, err = strconv.Atoi(words[1])
	default:
		s.wait, err = strconv.Atoi(words[0])
	}
	return err
}

// splitWords splits at blanks; a word in double quotes is as in Go.
func splitWords(line string) (words []string, err error) {
	for line != "" {
		if line[0] == '"' {
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", line, err)
			}
			word, err := strconv.Unquote(quoted)
			if err != nil {
				return nil, err
			}
			words, line = append(words, word), strings.TrimLeft(line[len(quoted):], " ")
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		words, line = append(words, word), strings.TrimLeft(rest, " ")
	}
	return words, nil
}

// appendLine appends one message.
func appendLine(dst []byte, w []string) ([]byte, error) {
	arg := func(i int) string {
		if i < len(w) {
			return w[i]
		}
		return ""
	}
	number := func(i int) uint32 {
		n, err := strconv.ParseUint(arg(i), 10, 32)
		if err != nil {
			return 0
		}
		return uint32(n)
	}
	var m pgproto3.FrontendMessage
	switch w[0] {
	case "Q":
		m = rawpg.Query(arg(1))
	case "P":
		p := rawpg.Parse(arg(1), arg(2))
		for i := 3; i < len(w); i++ {
			p.ParameterOIDs = append(p.ParameterOIDs, number(i))
		}
		m = p
	case "B":
		m = bindLine(w)
	case "D":
		m = &pgproto3.Describe{ObjectType: arg(1)[0], Name: arg(2)}
	case "E":
		m = rawpg.Execute(arg(1), number(2))
	case "C":
		m = &pgproto3.Close{ObjectType: arg(1)[0], Name: arg(2)}
	case "S":
		m = rawpg.Sync()
	case "H":
		m = rawpg.Flush()
	case "X":
		m = &pgproto3.Terminate{}
	case "d":
		m = &pgproto3.CopyData{Data: []byte(arg(1))}
	case "c":
		m = &pgproto3.CopyDone{}
	case "f":
		m = &pgproto3.CopyFail{Message: arg(1)}
	case "F":
		f := &pgproto3.FunctionCall{Function: number(1)}
		for _, a := range w[2:] {
			f.Arguments = append(f.Arguments, []byte(a))
		}
		m = f
	case "hex":
		b, err := hex.DecodeString(strings.Join(w[1:], ""))
		return append(dst, b...), err
	default:
		return nil, errors.New("no such message")
	}
	return m.Encode(dst)
}

// bindLine reads: B portal statement [in=0,1] [out=1] parameters; NULL is \N.
func bindLine(w []string) *pgproto3.Bind {
	b := &pgproto3.Bind{DestinationPortal: w[1], PreparedStatement: w[2]}
	codes := func(list string) (out []int16) {
		for _, c := range strings.Split(list, ",") {
			out = append(out, int16(c[0]-'0'))
		}
		return out
	}
	for _, p := range w[3:] {
		switch {
		case strings.HasPrefix(p, "in="):
			b.ParameterFormatCodes = codes(p[3:])
		case strings.HasPrefix(p, "out="):
			b.ResultFormatCodes = codes(p[4:])
		case p == `\N`:
			b.Parameters = append(b.Parameters, nil)
		default:
			b.Parameters = append(b.Parameters, []byte(p))
		}
	}
	return b
}

// TestLogin compares what a client is told at its log-in.
func TestLogin(t *testing.T) {
	direct, through := dial(t, shared.DirectDSN(0, shared.User)), raw(t)
	for name, want := range direct.Params {
		if got := through.Params[name]; got != want {
			t.Errorf("parameter %s: got %q, want %q", name, got, want)
		}
	}
	if got, want := len(through.Params), len(direct.Params); got != want {
		t.Errorf("parameters: got %d, want %d", got, want)
	}
	// Large messages stream in both directions.
	big := strings.Repeat("x", 3<<20)
	through.Ask(t, "1 2 D(3145728) C(SELECT_1) Z(I)", rawpg.Parse("", "SELECT length($1)"), rawpg.Bind("", "", big), rawpg.Execute("", 0), rawpg.Sync())
	through.Ask(t, "T(x:25) D("+big+") C(SELECT_1) Z(I)", rawpg.Query("SELECT repeat('x', 3 << 20) AS x"))
}
