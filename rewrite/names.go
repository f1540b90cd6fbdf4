// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// AnyName stands among names for one that could be any.
const AnyName = "\x00"

// Prepares are the names that stand behind the word PREPARE, wherever that is in the
// text.
func Prepares[T ~string | ~[]byte](sql T) []string { return looseNames(sql, "prepare") }

// named is what a refused text names: a function of the vault, and what it may prepare.
func (a *Analyzer) named(sql string, std bool) (function string, prepares []string) {
	defer enter(a.large, sql)()
	return firstNamed(sql), a.prepares(sql, std)
}

// prepares are the names behind PREPARE in a text, strings and comments included: it
// errs towards seeing one.
func (a *Analyzer) prepares(sql string, std bool) []string {
	if !holds(sql, "prepare") {
		return nil
	}
	s := a.scratch.Get().(*scratch) //nolint:errcheck // the pool's New makes nothing else
	defer a.scratch.Put(s)
	lex(sql, std, &s.lx)
	names := append(namesBehind("prepare", sql, s.lx.toks, true), namesIn("prepare", sql, &s.lx)...)
	slices.Sort(names)
	return slices.Compact(names)
}

// namesIn are the names behind a word in a text, strings and comments included. One in
// escapes that is a token of its own is left out: namesBehind tells which it is.
func namesIn(word, sql string, lx *lexed) []string {
	names, all := scanNames(sql, word)
	switch {
	case !all:
		return []string{AnyName}
	case lx.bad != "" || !slices.Contains(names, AnyName):
		return names
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == AnyName })
	for _, t := range lx.toks {
		if t.literal() && slices.Contains(looseNames(t.text(sql), word), AnyName) {
			return append(names, AnyName)
		}
	}
	return names
}

// namesBehind are the names that stand behind a word, where it begins a statement, or
// elsewhere.
func namesBehind(word, sql string, toks []token, first bool) (names []string) {
	for i := 1; i < len(toks); i++ {
		if !toks[i-1].word(sql, word) || (i == 1 || toks[i-2].is(sql, ';')) != first {
			continue
		}
		name, ok := identName(sql, toks[i])
		if ok && !(word == "prepare" && first && toks[i].word(sql, "transaction")) {
			names = append(names, clipIdent(name))
		}
	}
	return names
}

// looseNames are the names that stand behind a word in a text that cannot be taken
// apart into tokens, as one that a string holds; AnyName is one in escapes, or in quotes
// with such in them, and stands for all if there are more than are told apart. Words in
// comments count, for what begins one may stand in a string. One that is put together
// when it runs is not seen.
func looseNames[T ~string | ~[]byte](b T, word string) []string {
	names, all := scanNames(b, word)
	if !all {
		return []string{AnyName}
	}
	return names
}

// scanNames are the names of looseNames, if all are told apart.
//
// It goes backwards: where the gap behind a place ends is known from the places
// behind it, so that each byte is looked at once.
func scanNames[T ~string | ~[]byte](b T, word string) (names []string, all bool) {
	g := gaps{line: len(b), comment: len(b), outer: len(b), at: len(b)}
	for i := range g.ends {
		g.ends[i] = len(b)
	}
	for i := len(b) - 1; i >= 0; i-- {
		if looseWord(b, i, word) && begins(b, i) {
			names = appendIdent(names, looseIdent(b, g.end(i+len(word))))
			if len(names) > maxNames {
				return nil, false
			}
		}
		g.ends[i%gapsKept] = gapBefore(&g, b, i)
	}
	slices.Reverse(names)
	return names, true
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
