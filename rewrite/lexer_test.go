// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"strings"
	"testing"
)

// kindLetters name the kinds in the tables below.
const kindLetters = "iqQseudbnp#o."

func TestLexer(t *testing.T) {
	for _, c := range []struct{ sql, want string }{
		{"select a", "i:select i:a"},
		{"SELECT é_1$x", "i:SELECT i:é_1$x"},
		{`"a""b" x`, `q:"a""b" i:x`},
		{`U&"a" u&"b"`, `Q:U&"a" Q:u&"b"`},
		{`U&"!61" UESCAPE '!' x`, `Q:U&"!61" UESCAPE '!' i:x`},
		{`U&'!61' uescape /* c */ '!'`, `u:U&'!61' uescape /* c */ '!'`},
		{`U & "a"`, `i:U o:& q:"a"`},
		{"uescape '!'", "i:uescape s:'!'"},
		{"'a''b' 'c'", "s:'a''b' s:'c'"},
		{`'a\' 'b'`, `s:'a\' s:'b'`},
		{`E'a\'b' e'\\'`, `e:E'a\'b' e:e'\\'`},
		{"'a'\n'b'", "s:'a'\n'b'"},
		{"'a' \t\r 'b' \n 'c'", "s:'a' \t\r 'b' \n 'c'"},
		{"'a' -- x'\n--\n'b'", "s:'a' -- x'\n--\n'b'"},
		{"'a' /**/ \n'b'", "s:'a' s:'b'"},
		{"'a'\n /**/'b'", "s:'a' s:'b'"},
		{"E'a'\n'\\''", "e:E'a'\n'\\''"},
		{"'a'\nE'b'", "s:'a' e:E'b'"},
		{"$$a$$\n'b'", "d:$$a$$ s:'b'"},
		{"$a$ $b$ $$ $a$", "d:$a$ $b$ $$ $a$"},
		{"a$b$c", "i:a$b$c"},
		{"$1 $23a", "p:$1 p:$23 i:a"},
		{"$ $a", ".:$ .:$ i:a"},
		{"$1$a$x$a$", "p:$1 d:$a$x$a$"},
		{"B'01' x'ff' b'0'\n'1'", "b:B'01' b:x'ff' b:b'0'\n'1'"},
		{"X'a''b'", "b:X'a' s:'b'"},
		{"N'a' n 'b'", "n:N s:'a' i:n s:'b'"},
		{"1 1.5 .5 1. 1e5 1.5e-3 1e+", "#:1 #:1.5 #:.5 #:1. #:1e5 #:1.5e-3 #:1 i:e .:+"},
		{"1_0..2", "#:1_0. #:.2"},
		{"1..2 a[1:2]", "#:1 o:.. #:2 i:a .:[ #:1 .:: #:2 .:]"},
		{"0x1F 0b01 0o17 1_000", "#:0x1F #:0b01 #:0o17 #:1_000"},
		{"0B008 0o78 0x_1g 1__2 1._2 0x", "#:0B00 #:8 #:0o7 #:8 #:0x_1 i:g #:1 i:__2 #:1. i:_2 #:0 i:x"},
		{"a::b:=c=>d", "i:a o::: i:b o::= i:c o:=> i:d"},
		{"a<=b >= <> != c", "i:a o:<= i:b o:>= o:<> o:!= i:c"},
		{"+-*/%^<>= ~!@#&|`?", "o:+-*/%^<>= o:~!@#&|`?"},
		{"a+-1 @-1 =-1", "i:a .:+ .:- #:1 o:@- #:1 .:= .:- #:1"},
		{"a--b\nc", "i:a i:c"},
		{"a+--b\nc", "i:a .:+ i:c"},
		{"a/*b/*c*/d*/e", "i:a i:e"},
		{"@/*x*/1 */", "o:@ #:1 o:*/"},
		{"f(a,b);", "i:f .:( i:a .:, i:b .:) .:;"},
		{"'-- no' \"/* no\" -- yes", "s:'-- no' q:\"/* no\""},
		{"{\\", ".:{ .:\\"},
	} {
		var lx lexed
		lex(c.sql, true, &lx)
		if lx.bad != "" {
			t.Errorf("%q: %s", c.sql, lx.bad)
		}
		var got []string
		for _, tok := range lx.toks {
			got = append(got, kindLetters[tok.kind:tok.kind+1]+":"+tok.text(c.sql))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%q:\ngot  %s\nwant %s", c.sql, s, c.want)
		}
	}
}

func TestLexerStdStringsOff(t *testing.T) {
	const sql = `'a\'y' || 'c'`
	var on, off lexed
	lex(sql, true, &on)
	lex(sql, false, &off)
	// On: 'a\', y, ' || ', c, and a quote that nothing closes.
	if len(on.toks) != 4 || on.bad != badString || !on.plainBackslash {
		t.Errorf("on: %d tokens, %q", len(on.toks), on.bad)
	}
	if len(off.toks) != 3 || off.bad != "" || !off.plainBackslash || !off.touchy {
		t.Errorf("off: %d tokens, %q", len(off.toks), off.bad)
	}
}

func TestLexerErrors(t *testing.T) {
	for _, c := range []struct {
		sql, want string
		at        int
	}{
		{"a 'b", badString, 2},
		{"a E'b\\'", badString, 2},
		{"a 'b'\n'c", badString, 2},
		{`a "b`, badIdent, 2},
		{`a U&"b`, badIdent, 2},
		{`a ""`, badZeroIdent, 2},
		{`a U&""`, badZeroIdent, 2},
		{"a /* /* */", badComment, 2},
		{"a $$b", badDollar, 2},
		{"a $x$b$y$", badDollar, 2},
		{"a\x00b", badNUL, 1},
		{"U&'a' uescape 'ab'", badUescape, 14},
		{"U&'a' uescape '+'", badUescape, 14},
		{"U&'a' uescape $$!$$", badUescape, 14},
		{strings.Repeat("a ", maxTokens+1), badTooMany, 2*maxTokens - 1},
	} {
		var lx lexed
		lex(c.sql, true, &lx)
		if lx.bad != c.want || lx.badAt != c.at {
			t.Errorf("%.30q: %q at %d, want %q at %d", c.sql, lx.bad, lx.badAt, c.want, c.at)
		}
	}
}

func TestBlank(t *testing.T) {
	for _, c := range []struct{ sql, want string }{
		{"select 'secret', E'a\\'b', $t$x'y$t$, B'01'", "select 'xxxxxx', E'xxxx', $t$xxx$t$, B'xx'"},
		{"'a' -- why\n 'b''c'", "'x'       \n 'xxxx'"},
		{"'a' /* b */\n'c'", "'x' /*xxx*/\n'x'"},
		{"a /* secret */ b -- secret", "a              b          "},
		{"a /* x\ny */ b", "a           b"},
		{`"vault"."put_secret"("s3cret")`, `"vault"."put_secret"("xxxxxx")`},
		{`U&"\0076ault" U&"s\0033cret"`, `U&"\0076ault" U&"xxxxxxxxxx"`},
		{`U&"!0076ault" uescape '!', U&"s!0033" uescape '!'`, `U&"!0076ault" uescape '!', U&"xxxxxx" uescape '!'`},
		{`U&'s!0033' uescape '~'`, `U&'xxxxxx' uescape '!'`},
		{`execute "My P"`, `execute "My P"`},
		{"'pässword€'", "'xxxxxxxxxxxx'"},
		{"f('')", "f('')"},
		{"N'x' text 'y'", "N'x' text 'x'"},
	} {
		var lx lexed
		lex(c.sql, true, &lx)
		if got := string(blank(nil, c.sql, &lx)); got != c.want {
			t.Errorf("%q:\ngot  %q\nwant %q", c.sql, got, c.want)
		}
	}
}
