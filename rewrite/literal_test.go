// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"strings"
	"testing"
)

// oneLiteral reads the only token of a text.
func oneLiteral(t *testing.T, sql string, std bool) (string, *badLiteral) {
	t.Helper()
	var lx lexed
	lex(sql, std, &lx)
	i := len(lx.toks) - 1
	if lx.bad != "" || i < 0 || !lx.toks[i].literal() {
		t.Fatalf("%q is no literal: %s", sql, lx.bad)
	}
	b := builder{lx: &lx}
	out, bad := b.literal(i).decode(nil, sql)
	return string(out), bad
}

// The table was checked against PostgreSQL 15, as were 100,000 random literals.
func TestDecode(t *testing.T) {
	for _, c := range []struct{ sql, want string }{
		{`''`, ""},
		{`''''`, "'"},
		{`'a''''b'`, "a''b"},
		{`'a\b'`, `a\b`},
		{"'a'\n'b'", "ab"},
		{"'a'\r  -- c '\n 'b''c'\n'd'", "ab'cd"},
		{`E''`, ""},
		{`E'\\'`, `\`},
		{`E'\''`, "'"},
		{`E''''`, "'"},
		{`E'\b\f\n\r\t'`, "\b\f\n\r\t"},
		{`E'\a\q\"\8'`, `aq"8`},
		{`E'\1\12\1234\777'`, "\x01\n\x534\xff"},
		{`E'\x4\x41\x414\xg'`, "\x04AA4xg"},
		{`E'\u0041\U00000042'`, "AB"},
		{`E'\ud83d\ude00'`, "😀"},
		{`E'\uD83D\U0000DE00'`, "😀"},
		{"E'a\\\nb'", "a\nb"},
		{"E'\\n'\n'\\n'", "\n\n"},
		{`E'\é'`, "é"},
		{`$$$$`, ""},
		{`$$it's \n "x"$$`, `it's \n "x"`},
		{`$x$a$$b$y$c$x$`, "a$$b$y$c"},
		{`U&'\0041\+000042\\'''`, `AB\'`},
		{`U&'!0041!!\' UESCAPE '!'`, `A!\`},
		{"U&'\\d83d'\n'\\de00'", "😀"},
		{"U&'\\00'\n'41'", "A"},
		{"U&'\\'\n'\\'", `\`},
		{`U&'\+01F600'`, "😀"},
		{`N'a '' b  '`, "a ' b"},
		{`N'   '`, ""},
	} {
		got, bad := oneLiteral(t, c.sql, true)
		if bad != nil || got != c.want {
			t.Errorf("%q = %q %+v, want %q", c.sql, got, bad, c.want)
		}
	}
	for _, c := range []struct{ sql, want string }{
		{`'a\'b'`, "a'b"},
		{`'\\'`, `\`},
		{`'\x41'''`, "A'"},
		{`$$\n$$`, `\n`},
		{`N'\x41 '`, "A"},
	} {
		got, bad := oneLiteral(t, c.sql, false)
		if bad != nil || got != c.want {
			t.Errorf("off: %q = %q %+v, want %q", c.sql, got, bad, c.want)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	for _, c := range []struct {
		sql, state, message string
		at                  int
	}{
		{`E'ab\u'`, "22025", "invalid Unicode escape", 4},
		{`E'\u004'`, "22025", "invalid Unicode escape", 2},
		{`E'\U0000004'`, "22025", "invalid Unicode escape", 2},
		{`E'\u004g'`, "22025", "invalid Unicode escape", 2},
		{`E'\u0000'`, "42601", "invalid Unicode escape value", 2},
		{`E'\UFFFFFFFF'`, "42601", "invalid Unicode escape value", 2},
		{`E'\ud83d'`, "42601", "surrogate", 8},
		{`E'\ud83d\n'`, "42601", "surrogate", 8},
		{`E'\ud83d\u0041'`, "42601", "surrogate", 8},
		{`E'\ude00'`, "42601", "surrogate", 2},
		{"E'\\ud83d'\n'\\ude00'", "42601", "surrogate", 8},
		{`E'\0'`, "22021", "0x00", 2},
		{`E'a\x0'`, "22021", "0x00", 3},
		{`E'\400'`, "22021", "0x00", 2},
		{`E'\v'`, "22025", "releases", 2},
		{`U&'\'`, "42601", "invalid Unicode escape", 3},
		{`U&'\004'`, "42601", "invalid Unicode escape", 3},
		{`U&'\+00004'`, "42601", "invalid Unicode escape", 3},
		{`U&'\0000'`, "42601", "invalid Unicode escape value", 3},
		{`U&'\+110000'`, "42601", "invalid Unicode escape value", 3},
		{`U&'\d83dx'`, "42601", "surrogate", 8},
		{`U&'\d83d\\'`, "42601", "surrogate", 9},
		{`U&'\d83d'`, "42601", "surrogate", 8},
	} {
		got, bad := oneLiteral(t, c.sql, true)
		if bad == nil {
			t.Errorf("%q = %q", c.sql, got)
			continue
		}
		if bad.sqlState != c.state || !strings.Contains(bad.message, c.message) || bad.at != c.at || got != "" {
			t.Errorf("%q: %+v %q, want %s %q at %d", c.sql, *bad, got, c.state, c.message, c.at)
		}
	}
}

// TestDecodeValueBuffer: the value is appended, and the buffer grows at most
// once, before the value is in it, so that no copy of it is left behind.
func TestDecodeValueBuffer(t *testing.T) {
	const sql = `select vault.put_secret('a', E'\x41\x42\u0043')`
	p, r := testAnalyzer().Analyze(sql, Options{StdStrings: true, Settled: true})
	if r != nil {
		t.Fatal(r)
	}
	dst := append(make([]byte, 0, 64), "head:"...)
	got, err := p.DecodeValue(dst, sql, 0)
	if err != nil || string(got) != "head:ABC" || &got[0] != &dst[0] {
		t.Errorf("got %q, %v", got, err)
	}
	if n := testing.AllocsPerRun(50, func() { _, _ = p.DecodeValue(dst, sql, 0) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestIdentName(t *testing.T) {
	for _, c := range []struct{ sql, want string }{
		{"abc", "abc"},
		{"AbÄ", "abÄ"},
		{`"A""b"`, `A"b`},
		{`U&"\0041"`, "A"},
		{`U&"!0041""" UESCAPE '!'`, `A"`},
	} {
		var lx lexed
		lex(c.sql, true, &lx)
		if got, ok := identName(c.sql, lx.toks[0]); !ok || got != c.want {
			t.Errorf("%s = %q, %v", c.sql, got, ok)
		}
	}
	const bad = `U&"\00"`
	var lx lexed
	lex(bad, true, &lx)
	if got, ok := identName(bad, lx.toks[0]); ok {
		t.Errorf("%s = %q", bad, got)
	}
}
