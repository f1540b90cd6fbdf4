// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"slices"
	"unicode/utf8"
)

// literal says where a string constant stands and how to read it; it never
// holds the content.
type literal struct {
	start, end int
	kind       kind
	escape     byte
	std        bool // standard_conforming_strings when the text was lexed
	// padded: written as N'…', which is a bpchar: the server drops trailing
	// spaces when it makes a text of it.
	padded bool
	// code: it is looked into, not sealed; \v is white space then, as it is to
	// PostgreSQL 17 and later.
	code bool
}

// badLiteral is a literal that PostgreSQL would not read, or read differently
// from release to release. at is a byte offset in the text.
type badLiteral struct {
	at            int
	sqlState      string
	message, hint string
}

// sink collects decoded bytes, or throws them away when only validity is asked.
type sink struct {
	buf  []byte
	drop bool
	code bool // see literal
}

func (s *sink) byte(c byte) {
	if !s.drop {
		s.buf = append(s.buf, c)
	}
}

func (s *sink) string(v string) {
	if !s.drop {
		s.buf = append(s.buf, v...)
	}
}

func (s *sink) rune(r rune) {
	if !s.drop {
		s.buf = utf8.AppendRune(s.buf, r)
	}
}

// decode reads the literal into dst. No form decodes to more bytes than it is
// written with, so the buffer grows at most once, before anything is in it.
func (l literal) decode(dst []byte, sql string) ([]byte, *badLiteral) {
	s := sink{buf: slices.Grow(dst, l.end-l.start), code: l.code}
	n := len(dst)
	if bad := l.read(&s, sql); bad != nil {
		clear(s.buf[n:])
		return dst, bad
	}
	if l.padded {
		for len(s.buf) > n && s.buf[len(s.buf)-1] == ' ' {
			s.buf = s.buf[:len(s.buf)-1]
		}
	}
	return s.buf, nil
}

// check reports what is wrong with the literal without keeping its content.
func (l literal) check(sql string) *badLiteral {
	s := sink{drop: true}
	return l.read(&s, sql)
}

func (l literal) read(s *sink, sql string) *badLiteral {
	if l.kind == kindDollar {
		tag := l.start + 1
		for sql[tag] != '$' {
			tag++
		}
		s.string(sql[tag+1 : l.end-(tag+1-l.start)])
		return nil
	}
	u := unicodeState{lit: l}
	for i := l.start + l.prefix(); ; {
		end, _ := pieceEnd(sql, i, l.kind, l.std)
		var bad *badLiteral
		switch {
		case l.kind == kindUnicode:
			bad = u.piece(s, sql, i+1, end-1)
		case l.kind == kindEscape, l.kind == kindString && !l.std:
			bad = escapePiece(s, sql, i+1, end-1)
		default:
			plainPiece(s, sql[i+1:end-1])
		}
		if bad != nil {
			return bad
		}
		if end >= l.end {
			return u.finish(end - 1)
		}
		i, _ = continuation(sql, end)
	}
}

// prefix is the number of bytes in front of the first quote.
func (l literal) prefix() int {
	switch l.kind {
	case kindEscape, kindBits:
		return 1
	case kindUnicode, kindUnicodeIdent:
		return 2
	default:
		return 0
	}
}

// plainPiece reads a piece in which only the quote is special.
func plainPiece(s *sink, v string) {
	from := 0
	for i := 0; i < len(v); i++ {
		if v[i] == '\'' { // doubled
			s.string(v[from : i+1])
			i++
			from = i + 1
		}
	}
	s.string(v[from:])
}

// escapePiece reads a piece of an E'…' literal, sql[i:end].
func escapePiece(s *sink, sql string, i, end int) *badLiteral {
	var high rune // first half of a surrogate pair
	for i < end {
		c := sql[i]
		if c == '\\' && i+1 < end && lower(sql[i+1]) == 'u' {
			r, n := unicodeEscape(sql[i:end])
			if n == 0 {
				return &badLiteral{i, "22025", "invalid Unicode escape", `Unicode escapes must be \uXXXX or \UXXXXXXXX.`}
			}
			out, bad := joinSurrogates(&high, r, i)
			if bad != nil {
				return bad
			}
			if out != 0 {
				s.rune(out)
			}
			i += n
			continue
		}
		if high != 0 {
			return surrogatePair(i)
		}
		switch {
		case c == '\'': // doubled
			s.byte(c)
			i += 2
		case c == '\\':
			n, bad := simpleEscape(s, sql, i, end)
			if bad != nil {
				return bad
			}
			i += n
		default:
			s.byte(c)
			i++
		}
	}
	if high != 0 {
		return surrogatePair(end)
	}
	return nil
}

// simpleEscape reads the escape at i, which is no Unicode escape, and returns
// its length.
func simpleEscape(s *sink, sql string, i, end int) (int, *badLiteral) {
	c := sql[i+1] // the lexer never ends a piece behind a backslash
	var v, n int
	switch {
	case c >= '0' && c <= '7':
		for n = 1; n <= 3 && i+n < end && sql[i+n] >= '0' && sql[i+n] <= '7'; n++ {
			v = v<<3 | int(sql[i+n]-'0')
		}
	case c == 'x' && i+2 < end && isHex(sql[i+2]):
		for n = 2; n <= 3 && i+n < end && isHex(sql[i+n]); n++ {
			v = v<<4 | hexDigit(sql[i+n])
		}
	case c == 'v' && s.code:
		s.byte('\v')
		return 2, nil
	case c == 'v':
		return 0, &badLiteral{i, "22025", `\v means different characters in different releases of PostgreSQL`, `Write \x0b or \x76.`}
	default:
		s.byte(singleEscape(c))
		return 2, nil
	}
	if v &= 0xFF; v == 0 {
		return 0, &badLiteral{i, "22021", badNUL, hintText}
	}
	s.byte(byte(v))
	return n, nil
}

// singleEscape is scan.l's unescape_single_char.
func singleEscape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

// unicodeEscape reads \uXXXX or \UXXXXXXXX at the start of v; n is 0 if it is
// neither.
func unicodeEscape(v string) (r rune, n int) {
	n = 6
	if v[1] == 'U' {
		n = 10
	}
	return hexRune(v, 2, n)
}

// hexRune reads the hex digits v[from:to]; n is to, or 0 if they are not there.
func hexRune(v string, from, to int) (r rune, n int) {
	if len(v) < to {
		return 0, 0
	}
	var u uint32
	for i := from; i < to; i++ {
		if !isHex(v[i]) {
			return 0, 0
		}
		u = u<<4 | uint32(hexDigit(v[i])) //nolint:gosec // 0..15
	}
	if u > utf8.MaxRune {
		u = utf8.MaxRune + 1 // not a code point, whatever it is
	}
	return rune(u), to
}

func hexDigit(c byte) int {
	if isDigit(c) {
		return int(c - '0')
	}
	return int(lower(c)-'a') + 10
}

// joinSurrogates takes one escaped code point. It returns the character to
// write, or 0 while a pair is open.
func joinSurrogates(high *rune, r rune, at int) (rune, *badLiteral) {
	isHigh := r >= 0xD800 && r <= 0xDBFF
	isLow := r >= 0xDC00 && r <= 0xDFFF
	switch {
	case r == 0 || r > utf8.MaxRune:
		return 0, &badLiteral{at, "42601", "invalid Unicode escape value", `Code points are 1 to 10FFFF, in hexadecimal digits.`}
	case *high != 0 && isLow:
		r = (*high-0xD800)<<10 + (r - 0xDC00) + 0x10000
		*high = 0
		return r, nil
	case *high != 0 || isLow:
		return 0, surrogatePair(at)
	case isHigh:
		*high = r
		return 0, nil
	}
	return r, nil
}

func surrogatePair(at int) *badLiteral {
	return &badLiteral{at, "42601", "invalid Unicode surrogate pair", hintPair}
}

// unicodeState reads one U& literal byte by byte: the server joins the pieces
// before it looks for escapes, so one may begin in one piece and end in the next.
type unicodeState struct {
	lit  literal
	high rune // first half of a surrogate pair
	// An escape that began at byte offset start: need more digits, or
	// escapeOpen if nothing stands behind the escape character yet.
	need  int
	r     rune
	start int
}

const escapeOpen = -1

// piece reads sql[i:end]; quotes are doubled as in a plain literal, and in a
// quoted identifier it is the double quote that is.
func (u *unicodeState) piece(s *sink, sql string, i, end int) *badLiteral {
	quote := byte('\'')
	if u.lit.kind == kindUnicodeIdent {
		quote = '"'
	}
	for ; i < end; i++ {
		if bad := u.next(s, sql[i], i); bad != nil {
			return bad
		}
		if sql[i] == quote {
			i++ // doubled
		}
	}
	return nil
}

// next takes the byte c at offset at.
func (u *unicodeState) next(s *sink, c byte, at int) *badLiteral {
	switch {
	case u.need == 0 && c == u.lit.escape:
		u.need, u.r, u.start = escapeOpen, 0, at
		return nil
	case u.need == 0, u.need == escapeOpen && c == u.lit.escape:
		u.need = 0
		if u.high != 0 {
			return surrogatePair(at)
		}
		s.byte(c)
		return nil
	case u.need == escapeOpen && c == '+':
		u.need = 6
		return nil
	case !isHex(c):
		return u.invalid()
	case u.need == escapeOpen:
		u.need = 4
	}
	u.r = u.r<<4 | rune(hexDigit(c)) //nolint:gosec // at most six digits
	if u.need--; u.need > 0 {
		return nil
	}
	out, bad := joinSurrogates(&u.high, u.r, u.start)
	if bad == nil && out != 0 {
		s.rune(out)
	}
	return bad
}

func (u *unicodeState) invalid() *badLiteral {
	return &badLiteral{u.start, "42601", "invalid Unicode escape", `Unicode escapes must be \XXXX or \+XXXXXX.`}
}

// finish ends the literal at offset at.
func (u *unicodeState) finish(at int) *badLiteral {
	switch {
	case u.need != 0:
		return u.invalid()
	case u.high != 0:
		return surrogatePair(at)
	}
	return nil
}
