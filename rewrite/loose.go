// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"slices"
	"strings"
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
	// table: a table of schema vault is written that the extension does not have, or
	// a column. Only in code is it looked for in this way; see writesVault.
	table bool
}

// dangerous reports whether a value may stand in the text.
func (p *patterns) dangerous() bool {
	return p.value != 0 || len(p.bare) > 0 || p.unknown != "" || p.update
}

// suspect reports whether a value may stand in the text, or in the arguments of
// a call that takes none.
func (p *patterns) suspect() bool { return p.dangerous() || p.other }

// coded reports the same of what is code, where a table may be written as well.
func (p *patterns) coded() bool { return p.dangerous() || p.table }

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

// tableWords stand in front of tables with columns in parentheses, which in code look like
// calls.
var tableWords = wordSet("into on references table exists copy")

// longestTableWord is how long the longest of them is.
const longestTableWord = len("references")

// looseTable reports whether a name of schema vault, in front of the parenthesis at open,
// is a table's by the word in front of the schema, and notes one that is written.
func looseTable[T ~string | ~[]byte](p *patterns, b T, word span, name string, open int) bool {
	var w [longestTableWord]byte
	n := word.end - word.start
	if n > len(w) || signatureOf[name] != nil || name == AnyName {
		return false
	}
	for i := range n {
		w[i] = lower(b[word.start+i])
	}
	if !tableWords[string(w[:n])] {
		return false
	}
	p.table = p.table || string(w[:n]) == "into" && !looseColumns(b, open, tables[name])
	return true
}

// looseColumns reports whether the parenthesis at open holds nothing but names of columns
// of a table that has these. Not all of a long list is looked at.
func looseColumns[T ~string | ~[]byte](b T, open int, columns []string) bool {
	for i := open; i-open < looseReach; {
		if i = deepGap(b, i+1); i >= len(b) {
			return false
		}
		end := looseEnd(b, i)
		if !slices.Contains(columns, looseName(b, i, end)) {
			return false
		}
		if i = deepGap(b, end); i >= len(b) || b[i] != ',' {
			return i < len(b) && b[i] == ')'
		}
	}
	return false
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
	var schema string    // the name in front of a dot
	var last, front span // the last word, and the one in front of the schema
	dotted := false      // a dot stood behind schema
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
			schema, dotted, last, front = "", false, span{}, span{}
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
			schema, dotted, last = "", false, span{at, end}
			continue
		}
		name := looseName(b, at, end)
		if escaped {
			name = AnyName
		}
		if !dotted {
			schema, front, last = "", last, span{}
		}
		if b[after] == '(' && !(schema == schemaVault && looseTable(&p, b, front, name, after)) {
			p.looseCall(schema, name)
			p.update = p.update || schema == schemaVault && name == Update.String() && looseSecondString(b, after)
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
