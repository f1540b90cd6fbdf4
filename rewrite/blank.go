// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import "strings"

// blank appends to dst the text that pg_query and the cache may see: as long
// as sql, token for token the same, but the content of every string constant,
// of every comment, and of every quoted identifier that is not one of our own
// names overwritten. (A value typed in double quotes by mistake is a quoted
// identifier.)
func blank(dst []byte, sql string, lx *lexed) []byte {
	from := len(dst)
	dst = append(dst, sql...)
	b := dst[from:]
	next := 0 // the token behind the comment
	for _, c := range lx.comments {
		for next < len(lx.toks) && lx.toks[next].start < c.start {
			next++
		}
		blankComment(b[c.start:c.end], next > 0 && next < len(lx.toks) &&
			lx.toks[next-1].literal() && lx.toks[next-1].end <= c.start && lx.toks[next].kind == kindString)
	}
	for i, t := range lx.toks {
		switch {
		case t.literal():
			blankLiteral(b, sql, t, lx.std)
		case t.kind == kindQuoted && !keepIdent(sql, lx.toks, i):
			fill(b[t.start+1:t.end-1], 'x')
		case t.kind == kindUnicodeIdent && !keepIdent(sql, lx.toks, i):
			fill(b[t.start+3:t.body-1], 'x')
			blankUescape(b, t)
		}
	}
	return dst
}

// blankComment makes spaces of a comment: to pg_query's scanner any comment
// ends a literal that goes on on the next line. To the server only a block
// comment does, so one between two literals keeps its marks.
func blankComment(b []byte, between bool) {
	if between && b[0] == '/' {
		fill(b[2:len(b)-2], 'x')
		return
	}
	fill(b, ' ')
}

// blankLiteral overwrites the pieces of a literal and leaves quotes, tags and
// what stands between the pieces.
func blankLiteral(b []byte, sql string, t token, std bool) {
	if t.kind == kindDollar {
		tag := t.start + 1
		for sql[tag] != '$' {
			tag++
		}
		fill(b[tag+1:t.end-(tag+1-t.start)], 'x')
		return
	}
	for i := t.start + (literal{kind: t.kind}).prefix(); ; {
		end, _ := pieceEnd(sql, i, t.kind, std)
		fill(b[i+1:end-1], 'x')
		if end >= t.body {
			break
		}
		i, _ = continuation(sql, end)
	}
	blankUescape(b, t)
}

// blankUescape makes the escape character one that no x is.
func blankUescape(b []byte, t token) {
	if t.end != t.body {
		b[t.end-2] = '!'
	}
}

func fill(b []byte, c byte) {
	for i := range b {
		b[i] = c
	}
}

// keepIdent reports whether pg_query must see the quoted identifier toks[i]:
// it is a name that means something to us, or names a prepared statement or
// cursor.
func keepIdent(sql string, toks []token, i int) bool {
	if i > 0 {
		p := toks[i-1]
		if p.word(sql, "execute") || p.word(sql, "prepare") || p.word(sql, "declare") {
			return true
		}
	}
	t := toks[i]
	if t.body-t.start > maxKnownIdent {
		return false
	}
	name, ok := identName(sql, t)
	return ok && (knownNames[strings.ToLower(name)] || valueName(name) || vaultName(name))
}
