// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import "strings"

// kind is what a token is. Keywords are identifiers here: only the grammar,
// which is pg_query's business, needs to tell them apart.
type kind uint8

const (
	kindIdent        kind = iota // unquoted identifier or keyword
	kindQuoted                   // "…"
	kindUnicodeIdent             // U&"…"
	kindString                   // '…'
	kindEscape                   // E'…'
	kindUnicode                  // U&'…'
	kindDollar                   // $tag$…$tag$
	kindBits                     // B'…' or X'…'
	kindNational                 // the N of N'…'; the string is the next token
	kindParam                    // $1
	kindNumber
	kindOperator // more than one character, or one that is no punctuation
	kindPunct    // one character that the grammar knows by itself
)

// token is one lexical token of a text; comments and white space are none.
type token struct {
	start, end int
	// body is where the token itself ends: before end only for a U& token
	// with UESCAPE, which to the grammar is one token.
	body int
	kind kind
	// escape is the escape character of a U& token: a backslash, or what
	// UESCAPE said.
	escape byte
}

// text is the token as written.
func (t token) text(sql string) string { return sql[t.start:t.end] }

// is reports whether the token is the punctuation c.
func (t token) is(sql string, c byte) bool {
	return t.kind == kindPunct && sql[t.start] == c
}

// literal reports whether the token is a string constant of any form.
func (t token) literal() bool { return t.kind >= kindString && t.kind <= kindBits }

// word reports whether the token is the unquoted word w (lower case), in any case.
func (t token) word(sql string, w string) bool {
	if t.kind != kindIdent || t.end-t.start != len(w) {
		return false
	}
	return equalFold(sql[t.start:t.end], w)
}

func equalFold(s, w string) bool {
	for i := range len(w) {
		if lower(s[i]) != w[i] {
			return false
		}
	}
	return true
}

// span is a range of bytes.
type span struct{ start, end int }

// lexed is a text taken apart.
type lexed struct {
	// std is the setting under which the text was lexed.
	std      bool
	toks     []token
	comments []span
	// plainBackslash: a backslash stands in a '…' literal, so that the tokens
	// depend on standard_conforming_strings.
	plainBackslash bool
	// touchy: a backslash or a byte ≥ 0x80 stands in some literal, so that its
	// meaning depends on a setting.
	touchy bool
	// bad is what stopped the lexer, empty if nothing did; badAt is where.
	bad   string
	badAt int
}

// What can stop the lexer. The words are PostgreSQL's.
const (
	badString    = "unterminated quoted string"
	badIdent     = "unterminated quoted identifier"
	badZeroIdent = "zero-length delimited identifier"
	badComment   = "unterminated /* comment"
	badDollar    = "unterminated dollar-quoted string"
	badUescape   = "invalid Unicode escape character"
	badUnicode   = "unsafe use of string constant with Unicode escapes"
	badTooMany   = "too many tokens"
	badNUL       = "invalid byte sequence for encoding \"UTF8\": 0x00"
	maxTokens    = 100_000 // a parse tree costs about 1 KB a token; see bounds.go
)

// lexer holds the text being taken apart. It follows src/backend/parser/scan.l
// of PostgreSQL 16, on which 14 to 18 agree for everything that can be valid.
type lexer struct {
	sql string
	// std is standard_conforming_strings: off makes '…' read like E'…'.
	std bool
	out *lexed
	// The run of operator characters last seen, see scanRun.
	runEnd, runSpecial, runOther int
}

// lex takes sql apart into out, whose slices are reused.
func lex(sql string, std bool, out *lexed) {
	*out = lexed{std: std, toks: out.toks[:0], comments: out.comments[:0]}
	if strings.IndexByte(sql, 0) >= 0 {
		out.bad, out.badAt = badNUL, strings.IndexByte(sql, 0)
		return
	}
	l := lexer{sql: sql, std: std, out: out}
	for i := 0; i < len(sql) && out.bad == ""; {
		if len(out.toks) >= maxTokens {
			out.bad, out.badAt = badTooMany, i
			return
		}
		i = l.next(i)
	}
}

// next lexes one token, comment or space at i and returns where it ends.
func (l *lexer) next(i int) int {
	s, c := l.sql, l.sql[i]
	switch {
	case isSpace(c):
		return i + 1
	case c == '-' && l.at(i+1) == '-':
		end := lineEnd(s, i)
		l.out.comments = append(l.out.comments, span{i, end})
		return end
	case c == '/' && l.at(i+1) == '*':
		return l.blockComment(i)
	case c == '\'':
		return l.quoted(i, i, kindString)
	case c == '"':
		return l.identifier(i, i, kindQuoted)
	case c == '$':
		return l.dollar(i)
	case isDigit(c), c == '.' && isDigit(l.at(i+1)):
		return l.emit(i, numberEnd(s, i), kindNumber)
	case isIdentStart(c):
		return l.wordOrPrefix(i)
	case isOpChar(c):
		return l.operator(i)
	case c == ':' && (l.at(i+1) == ':' || l.at(i+1) == '='):
		return l.emit(i, i+2, kindOperator)
	case c == '.' && l.at(i+1) == '.':
		return l.emit(i, i+2, kindOperator)
	}
	return l.emit(i, i+1, kindPunct)
}

// at is the byte at i, or 0 behind the end.
func (l *lexer) at(i int) byte {
	if i < len(l.sql) {
		return l.sql[i]
	}
	return 0
}

func (l *lexer) emit(start, end int, k kind) int {
	l.out.toks = append(l.out.toks, token{start: start, end: end, body: end, kind: k})
	return end
}

func (l *lexer) fail(at int, why string) int {
	l.out.bad, l.out.badAt = why, at
	return len(l.sql)
}

// wordOrPrefix lexes an identifier, or the literal whose prefix it is.
func (l *lexer) wordOrPrefix(i int) int {
	if l.at(i+1) == '\'' {
		switch lower(l.sql[i]) {
		case 'e':
			return l.quoted(i, i+1, kindEscape)
		case 'b', 'x':
			return l.quoted(i, i+1, kindBits)
		case 'n':
			return l.emit(i, i+1, kindNational)
		}
	}
	if lower(l.sql[i]) == 'u' && l.at(i+1) == '&' {
		switch l.at(i + 2) {
		case '\'':
			return l.quoted(i, i+2, kindUnicode)
		case '"':
			return l.identifier(i, i+2, kindUnicodeIdent)
		}
	}
	end := i + 1
	for end < len(l.sql) && isIdentCont(l.sql[end]) {
		end++
	}
	l.emit(i, end, kindIdent)
	return end
}

// quoted lexes a string constant whose first quote is at quote, with all the
// pieces that continue it on following lines.
func (l *lexer) quoted(start, quote int, k kind) int {
	if k == kindUnicode && !l.std {
		return l.fail(start, badUnicode) // as the server does
	}
	i := quote
	for {
		end, ok := pieceEnd(l.sql, i, k, l.std)
		if !ok {
			return l.fail(start, badString)
		}
		l.note(l.sql[i+1:end-1], k)
		next, more := continuation(l.sql, end)
		if !more {
			l.emit(start, end, k)
			l.uescape(start)
			return end
		}
		// Comments between two pieces are comments like all others.
		l.commentsIn(end, next)
		i = next
	}
}

// note remembers what in a literal's content depends on a setting.
func (l *lexer) note(content string, k kind) {
	if strings.IndexByte(content, '\\') >= 0 {
		l.out.touchy = true
		if k == kindString {
			l.out.plainBackslash = true
		}
	}
	if !isASCII(content) {
		l.out.touchy = true
	}
}

func (l *lexer) commentsIn(from, to int) {
	for i := from; i < to; i++ {
		if l.sql[i] == '-' {
			end := lineEnd(l.sql, i)
			l.out.comments = append(l.out.comments, span{i, end})
			i = end - 1
		}
	}
}

// identifier lexes a quoted identifier whose quote is at quote.
func (l *lexer) identifier(start, quote int, k kind) int {
	i := quote + 1
	for {
		n := strings.IndexByte(l.sql[i:], '"')
		if n < 0 {
			return l.fail(start, badIdent)
		}
		i += n + 1
		if l.at(i) != '"' {
			break
		}
		i++
	}
	if i == quote+2 {
		return l.fail(start, badZeroIdent)
	}
	l.emit(start, i, k)
	l.uescape(start)
	return i
}

// uescape gives a U& token its default escape character, and joins UESCAPE and
// its argument, the token just lexed, to the U& token before them.
func (l *lexer) uescape(at int) {
	toks := l.out.toks
	n := len(toks)
	t := &toks[n-1]
	if t.kind == kindUnicode || t.kind == kindUnicodeIdent {
		t.escape = '\\'
		return
	}
	if n < 3 || !t.literal() || !toks[n-2].word(l.sql, "uescape") {
		return
	}
	u := &toks[n-3]
	if u.kind != kindUnicode && u.kind != kindUnicodeIdent || u.end != u.body {
		return
	}
	// PostgreSQL takes any form of literal of one character; ours is the
	// plain one, the only one ever written.
	if t.kind != kindString || t.end-t.start != 3 || !isEscapeChar(l.sql[t.start+1]) {
		l.fail(at, badUescape)
		return
	}
	u.escape, u.end = l.sql[t.start+1], t.end
	l.out.toks = toks[:n-2]
}

// dollar lexes a parameter, a dollar-quoted string or a lone dollar sign.
func (l *lexer) dollar(i int) int {
	if isDigit(l.at(i + 1)) {
		end := i + 2
		for isDigit(l.at(end)) {
			end++
		}
		return l.emit(i, end, kindParam)
	}
	tag := i + 1
	if isIdentStart(l.at(tag)) {
		for tag++; tag < len(l.sql) && l.sql[tag] != '$' && isIdentCont(l.sql[tag]); tag++ {
		}
	}
	if l.at(tag) != '$' {
		return l.emit(i, i+1, kindPunct)
	}
	delim := l.sql[i : tag+1]
	n := strings.Index(l.sql[tag+1:], delim)
	if n < 0 {
		return l.fail(i, badDollar)
	}
	content := l.sql[tag+1 : tag+1+n]
	l.note(content, kindDollar)
	end := tag + 1 + n + len(delim)
	l.emit(i, end, kindDollar)
	l.uescape(i)
	return end
}

// blockComment lexes a comment with the comments nested in it.
func (l *lexer) blockComment(i int) int {
	depth := 1
	for j := i + 2; j+1 < len(l.sql); {
		switch {
		case l.sql[j] == '/' && l.sql[j+1] == '*':
			depth++
			j += 2
		case l.sql[j] == '*' && l.sql[j+1] == '/':
			depth--
			j += 2
			if depth == 0 {
				l.out.comments = append(l.out.comments, span{i, j})
				return j
			}
		default:
			j++
		}
	}
	return l.fail(i, badComment)
}

// operator lexes an operator by scan.l's rules: it is a run of operator
// characters, a comment ends it, and a trailing + or - belongs to it only if
// the run holds a character that no standard operator has. A run is scanned
// once, although it may fall into many tokens.
func (l *lexer) operator(i int) int {
	if i >= l.runEnd {
		l.scanRun(i)
	}
	end := l.runEnd
	if l.runSpecial < i {
		end = max(i, l.runOther) + 1
	}
	if end == i+1 && strings.IndexByte("+-*/%^<>=", l.sql[i]) >= 0 {
		return l.emit(i, end, kindPunct)
	}
	return l.emit(i, end, kindOperator)
}

// scanRun finds the end of the run at i, and the last places in it of a
// character that no standard operator has, and of one that is not + or -.
func (l *lexer) scanRun(i int) {
	l.runSpecial, l.runOther = -1, -1
	end := i
	for ; end < len(l.sql) && isOpChar(l.sql[end]); end++ {
		c := l.sql[end]
		if c == '-' && l.at(end+1) == '-' || c == '/' && l.at(end+1) == '*' {
			break
		}
		if strings.IndexByte("~!@#^&|`?%", c) >= 0 {
			l.runSpecial = end
		}
		if c != '+' && c != '-' {
			l.runOther = end
		}
	}
	l.runEnd = end
}
