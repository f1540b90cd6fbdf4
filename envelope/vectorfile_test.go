// SPDX-License-Identifier: GPL-3.0-or-later

package envelope_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const vectorDir = "testdata/vectors"

// vector is one file of testdata/vectors: "name: value" lines, an empty line,
// and the text up to the file's last line feed, which is not part of it.
type vector struct {
	name    string
	header  [][2]string
	payload string
}

func (v *vector) add(name, value string) { v.header = append(v.header, [2]string{name, value}) }

func (v *vector) addHex(name string, b []byte) { v.add(name, hex.EncodeToString(b)) }

func (v *vector) get(name string) string {
	for _, h := range v.header {
		if h[0] == name {
			return h[1]
		}
	}
	return ""
}

func (v *vector) all(name string) (values []string) {
	for _, h := range v.header {
		if h[0] == name {
			values = append(values, h[1])
		}
	}
	return values
}

func (v *vector) hex(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(v.get(name))
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return b
}

// repeat is a byte in hexadecimal and how often, as "61 524288".
func (v *vector) repeat(tb testing.TB, name string) []byte {
	tb.Helper()
	digits, times, ok := strings.Cut(v.get(name), " ")
	b, err := hex.DecodeString(digits)
	n, err2 := strconv.Atoi(times)
	if !ok || err != nil || err2 != nil {
		tb.Fatalf("%s: want a byte in hexadecimal and a number", name)
	}
	return bytes.Repeat(b, n)
}

// text is the payload with its padding.
func (v *vector) text(tb testing.TB) []byte {
	tb.Helper()
	text := []byte(v.payload)
	if v.get("payload-pad") != "" {
		text = append(text, v.repeat(tb, "payload-pad")...)
	}
	return text
}

func (v *vector) file() []byte {
	var b bytes.Buffer
	for _, h := range v.header {
		fmt.Fprintf(&b, "%s: %s\n", h[0], h[1])
	}
	fmt.Fprintf(&b, "\n%s\n", v.payload)
	return b.Bytes()
}

func parseVector(tb testing.TB, name string, file []byte) *vector {
	tb.Helper()
	v := &vector{name: name}
	head, payload, ok := strings.Cut(string(file), "\n\n")
	if !ok || !strings.HasSuffix(payload, "\n") {
		tb.Fatalf("%s: no empty line, or no line feed at the end", name)
	}
	v.payload = strings.TrimSuffix(payload, "\n")
	for line := range strings.Lines(head) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if !ok {
			tb.Fatalf("%s: header line %q", v.name, line)
		}
		v.add(name, value)
	}
	return v
}

// readVectors reads every file there is.
func readVectors(tb testing.TB) (vs []*vector) {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(vectorDir, "*.txt"))
	if err != nil || len(files) == 0 {
		tb.Fatalf("no vectors: %v", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			tb.Fatal(err)
		}
		vs = append(vs, parseVector(tb, strings.TrimSuffix(filepath.Base(f), ".txt"), b))
	}
	return vs
}

func atoi32(tb testing.TB, s string) int32 {
	tb.Helper()
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		tb.Fatal(err)
	}
	return int32(n)
}

func parsePrefix(tb testing.TB, s string) netip.Prefix {
	tb.Helper()
	p, err := netip.ParsePrefix(s)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}
