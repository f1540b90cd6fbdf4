// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// patterns is what the words of a text look like, without a parser: used where
// there is no tree (texts that do not parse, bodies of functions), and to decide
// whether a parse is worth its time.
type patterns struct {
	// value is the first function that takes a value, called with schema
	// vault in front of it; bare are those without a schema.
	value Func
	bare  []Func
	// unknown is the first name called in schema vault that no function of
	// ours has.
	unknown string
	// vault: some function of schema vault is called, or read_secret by its
	// bare name. reads: it is read_secret.
	vault, reads bool
	// other: some function of schema vault but read_secret is called. Its
	// arguments may be wrong, which only the tree tells.
	other bool
	// update: update_secret is called as supabase/vault's is, with the new value.
	update bool
}

// dangerous reports whether a value may stand in the text.
func (p *patterns) dangerous() bool {
	return p.value != 0 || len(p.bare) > 0 || p.unknown != "" || p.update
}

// suspect reports whether a value may stand in the text, or in the arguments of
// a call that takes none.
func (p *patterns) suspect() bool { return p.dangerous() || p.other }

// call notes a call of name.
func (p *patterns) call(name string, inVault bool) {
	f := valueFuncs[name]
	p.other = p.other || inVault && name != "read_secret"
	switch {
	case name == "read_secret":
		p.vault, p.reads = true, true
	case inVault && f != 0 && p.value == 0:
		p.vault, p.value = true, f
	case inVault && signatureOf[name] == nil && p.unknown == "":
		p.vault, p.unknown = true, name
	case inVault:
		p.vault = true
	case f != 0 && !inVault && !slices.Contains(p.bare, f):
		p.bare = append(p.bare, f)
	}
}

// tokenPatterns looks for calls among the tokens of a text.
func tokenPatterns(sql string, toks []token) (p patterns) {
	for i := 1; i < len(toks); i++ {
		if !toks[i].is(sql, '(') {
			continue
		}
		qualified := i >= 3 && toks[i-2].is(sql, '.')
		if qualified {
			schema, ok := identName(sql, toks[i-3])
			if !ok || schema != schemaVault || i >= 4 && toks[i-4].word(sql, "into") {
				continue // the latter is a table: see writesVault
			}
		}
		name, ok := identName(sql, toks[i-1])
		if !ok {
			continue
		}
		p.call(name, qualified)
	}
	return p
}

// loosePatterns looks for calls in a text that cannot be taken apart into
// tokens, or whose literals must be looked into as well. Quotes are white
// space to it, so it also sees what stands inside strings. It errs towards
// seeing a call.
func loosePatterns[T ~string | ~[]byte](b T) patterns {
	p := scanPatterns(b)
	deepen(&p, b)
	return p
}

// scanPatterns takes comments for white space, and all else for words.
func scanPatterns[T ~string | ~[]byte](b T) (p patterns) {
	var schema string // the name in front of a dot
	dotted := false   // a dot stood behind schema
	for i := 0; i < len(b); {
		i = looseGap(b, i)
		if i >= len(b) {
			break
		}
		if b[i] == '.' {
			dotted = true
			i++
			continue
		}
		at := i
		end := looseEnd(b, i)
		if end == i {
			schema, dotted = "", false
			i++
			continue
		}
		i = end
		after := looseGap(b, end)
		escaped := looseUnicode(b, at) && looseWord(b, after, "uescape")
		if escaped { // the character, in quotes that may be doubled, is behind it
			after = looseGap(b, after+len("uescape"))
			if after < len(b) && b[after] != '(' {
				after = looseGap(b, after+1)
			}
			i = after
		}
		if after >= len(b) || b[after] != '(' && b[after] != '.' {
			// Not even copied: most words are none of our business.
			schema, dotted = "", false
			continue
		}
		name := looseName(b, at, end)
		if escaped {
			name = AnyName
		}
		if b[after] == '(' {
			if !dotted {
				schema = ""
			}
			p.looseCall(schema, name)
			p.update = p.update || schema == schemaVault && name == "update_secret" && looseSecondString(b, after)
		}
		schema, dotted = name, false
	}
	return p
}

// looseReach is how far the second argument is looked for: a name has 255 bytes.
const looseReach = 1 << 10

// looseSecondString reports whether the second argument behind the parenthesis at
// open begins as a string, or whether that is too far away to be seen.
func looseSecondString[T ~string | ~[]byte](b T, open int) bool {
	depth := 0
	for i := open; i < len(b); i++ {
		if i-open > looseReach {
			return true
		}
		switch b[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return false
			}
		case ',':
			if depth != 1 {
				continue
			}
			for i++; i < len(b) && isSpace(b[i]); i++ {
			}
			// E'…', N'…' and U&'…', and quotes behind backslashes.
			for i < len(b) && strings.IndexByte(`eEnNuU&\`, b[i]) >= 0 {
				i++
			}
			return i < len(b) && (b[i] == '\'' || b[i] == '$')
		}
	}
	return false
}

// AnyName stands among names for one that could be any.
const AnyName = "\x00"

func (p *patterns) looseCall(schema, name string) {
	inVault := schema == schemaVault || schema == AnyName
	switch {
	case name == AnyName && (inVault || schema == ""):
		p.call(Put.String(), inVault)
	case name == AnyName, schema != "" && !inVault:
	default:
		p.call(name, inVault)
	}
}

// looseEnd is the end of the identifier at i, or i if there is none.
func looseEnd[T ~string | ~[]byte](b T, i int) int {
	end := i
	if looseUnicode(b, i) {
		for end = i + 3; end < len(b) && b[end] != '"'; end++ {
		}
		return end
	}
	if isIdentStart(b[i]) {
		for end++; end < len(b) && isIdentCont(b[end]); end++ {
		}
	}
	return end
}

// looseWord reports whether the word w (lower case) stands at i.
func looseWord[T ~string | ~[]byte](b T, i int, w string) bool {
	return deepWord(b, i, w) && (i+len(w) == len(b) || b[i+len(w)] != '$')
}

// looseUnicode reports whether U&" stands at i.
func looseUnicode[T ~string | ~[]byte](b T, i int) bool {
	return lower(b[i]) == 'u' && i+2 < len(b) && b[i+1] == '&' && b[i+2] == '"'
}

// looseName is the identifier b[i:end], folded to lower case; one that could be
// spelled in escapes is AnyName, one too long to be ours is empty.
func looseName[T ~string | ~[]byte](b T, i, end int) string {
	if looseUnicode(b, i) {
		i += 3
		for k := i; k < end; k++ {
			if !isIdentCont(b[k]) {
				return AnyName
			}
		}
	}
	const most = 63
	if end-i > most {
		return ""
	}
	return foldIdent(string(b[i:end]))
}

// looseNames are the names that stand behind a word in a text that cannot be taken
// apart into tokens, as one that a string holds; AnyName is one in escapes. Words in
// comments count, for what begins one may stand in a string. One in quotes that are
// doubled, or that is put together when it runs, is not seen.
//
// It goes backwards: where the gap behind a place ends is known from the places
// behind it, so that each byte is looked at once.
func looseNames[T ~string | ~[]byte](b T, word string) (names []string) {
	g := gaps{line: len(b), comment: len(b), outer: len(b), at: len(b)}
	for i := range g.ends {
		g.ends[i] = len(b)
	}
	for i := len(b) - 1; i >= 0; i-- {
		if looseWord(b, i, word) && begins(b, i) {
			names = appendIdent(names, looseIdent(b, g.end(i+len(word))))
			if len(names) > maxNames {
				return []string{AnyName}
			}
		}
		g.ends[i%gapsKept] = gapBefore(&g, b, i)
	}
	slices.Reverse(names)
	return names
}

// gaps are, going backwards, where the gaps end that begin at the last places.
type gaps struct {
	ends           [gapsKept]int
	line           int // of the gap behind the next end of a line
	comment, outer int // of those behind the next two ends of comments
	at             int // where the first of these is
}

const gapsKept = 8 // more than a word has

func (g *gaps) end(i int) int { return g.ends[i%gapsKept] }

// gapBefore is where the gap ends that begins at i: there, if none does.
func gapBefore[T ~string | ~[]byte](g *gaps, b T, i int) int {
	next := byte(0)
	if i+1 < len(b) {
		next = b[i+1]
	}
	switch c := b[i]; {
	case c == '\n', c == '\r':
		g.line = g.end(i + 1)
		return g.line
	case isSpace(c), isQuote(c):
		return g.end(i + 1)
	case c == '\\' && letterEscape(next):
		return g.end(i + 2)
	case c == '-' && next == '-':
		return g.line
	case c == '/' && next == '*':
		if g.at == i+1 {
			return g.outer
		}
		return g.comment
	case c == '*' && next == '/': // also of one around it
		g.comment, g.outer, g.at = g.end(i+2), g.comment, i
		return g.comment
	}
	return i
}

// appendIdent appends a name, and what it may be if a dollar quote ends in it.
func appendIdent(names []string, name string) []string {
	if first, _, glued := strings.Cut(name, "$"); glued && first != "" {
		names = append(names, first)
	}
	if name != "" {
		names = append(names, name)
	}
	return names
}

// maxNames is how many names are told apart.
const maxNames = 10_000

// looseIdent is the identifier at i, in quotes or not; empty if there is none.
func looseIdent[T ~string | ~[]byte](b T, i int) string {
	if i >= len(b) {
		return ""
	}
	quoted := b[i-1] == '"'
	switch {
	case looseUnicode(b, i):
		return AnyName
	case !quoted && !isIdentStart(b[i]):
		return ""
	}
	end := i
	for end < len(b) && end-i < maxIdent+utf8.UTFMax && (quoted && b[end] != '"' || !quoted && isIdentCont(b[end])) {
		end++
	}
	if quoted && end+1 < len(b) && b[end] == '"' && b[end+1] == '"' {
		return AnyName
	}
	name := string(b[i:end])
	if !quoted {
		name = foldIdent(name)
	}
	return clipIdent(name)
}

// maxIdent is how many bytes of an identifier the server keeps (NAMEDATALEN - 1).
const maxIdent = 63

// clipIdent is an identifier as the server keeps it: no part of a character is left.
func clipIdent(name string) string {
	if len(name) <= maxIdent {
		return name
	}
	end := maxIdent
	for end > maxIdent-utf8.UTFMax && !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end]
}

// looseGap skips white space, quotes and comments.
func looseGap[T ~string | ~[]byte](b T, i int) int {
	for i < len(b) {
		c := b[i]
		switch {
		case isSpace(c), c == '"', c == '\'':
			i++
		case c == '-' && i+1 < len(b) && b[i+1] == '-':
			for i < len(b) && b[i] != '\n' && b[i] != '\r' {
				i++
			}
		case c == '/' && i+1 < len(b) && b[i+1] == '*':
			// A nested comment's end ends the gap too early at worst, and
			// "*/" is no name.
			for i += 2; i+1 < len(b) && (b[i] != '*' || b[i+1] != '/'); i++ {
			}
			i = min(i+2, len(b))
		default:
			return i
		}
	}
	return i
}
