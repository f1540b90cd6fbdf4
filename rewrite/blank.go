// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

// blank appends to dst the text that pg_query and the cache may see: as long
// as sql, token for token the same, but the content of every string constant,
// of every comment, and of every quoted identifier that is not one of our own
// names overwritten. (A value typed in double quotes by mistake is a quoted
// identifier.)
func blank(dst []byte, sql string, lx *lexed) []byte {
	from := len(dst)
	dst = append(dst, sql...)
	b := dst[from:]
	for _, c := range lx.comments {
		blankComment(b[c.start:c.end])
	}
	for i, t := range lx.toks {
		switch {
		case t.literal():
			blankLiteral(b, sql, t, lx.std)
		case t.kind == kindQuoted && !keepIdent(sql, lx.toks, i):
			fill(b[t.start+1:t.end-1], 'x')
		case t.kind == kindUnicodeIdent && !keepIdent(sql, lx.toks, i):
			fill(b[t.start+3:t.end-1], 'x')
			blankUescape(b, lx.toks, i)
		}
		if t.kind == kindUnicode {
			blankUescape(b, lx.toks, i)
		}
	}
	return dst
}

// blankComment leaves the marks of a block comment, because to pg_query's
// scanner any comment ends a literal that goes on on the next line; to the
// server only a block comment does, so -- comments become spaces.
func blankComment(b []byte) {
	if b[0] == '-' {
		fill(b, ' ')
		return
	}
	fill(b[2:len(b)-2], 'x')
}

// blankLiteral overwrites the pieces of a literal and leaves quotes, tags and
// what stands between the pieces.
func blankLiteral(b []byte, sql string, t token, std bool) {
	if t.uescape {
		return // one character, and the token before it needs it
	}
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
		if end >= t.end {
			return
		}
		i, _ = continuation(sql, end)
	}
}

// blankUescape makes the escape character one that no x is.
func blankUescape(b []byte, toks []token, i int) {
	if i+2 < len(toks) && toks[i+2].uescape {
		b[toks[i+2].start+1] = '!'
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
	if t.end-t.start > maxKnownIdent {
		return false
	}
	name, ok := identName(sql, t)
	return ok && knownNames[name]
}
