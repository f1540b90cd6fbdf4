// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import "slices"

// What begins a comment, or an identifier in escapes, may stand in a string, and hides
// what follows from whoever reads word after word. Here the names themselves are looked
// for, wherever they stand; the rest errs towards a call.

const (
	// secretSuffix ends the names of all functions that take a value.
	secretSuffix = "_secret"
	// deepReach is how far the parenthesis may be behind a name to be looked for.
	deepReach = 256
)

// deepPatterns are the calls that a text holds, whatever they stand in.
func deepPatterns[T ~string | ~[]byte](b T) (p patterns) {
	for i := range len(b) {
		switch b[i] {
		case '_':
			if deepWord(b, i, secretSuffix) {
				deepCall(&p, b, i)
			}
		case 'v', 'V':
			if deepWord(b, i, schemaVault) && begins(b, i) {
				deepMember(&p, b, i, i+len(schemaVault))
			}
		case 'u', 'U':
			if looseUnicode(b, i) && begins(b, i) {
				deepEscaped(&p, b, i)
			}
		}
	}
	return p
}

// deepen adds to p what deepPatterns sees, unless p has what nothing excuses.
func deepen[T ~string | ~[]byte](p *patterns, b T) {
	if p.value != 0 || p.unknown != "" || p.update {
		return
	}
	deep := deepPatterns(b)
	p.value, p.unknown, p.update = deep.value, deep.unknown, deep.update
	p.other, p.table = p.other || deep.other, p.table || deep.table
	for _, f := range deep.bare {
		if !slices.Contains(p.bare, f) {
			p.bare = append(p.bare, f)
		}
	}
}

// deepWord reports whether w (lower case) stands at i, whatever is in front of it. A
// dollar sign may end a string there.
func deepWord[T ~string | ~[]byte](b T, i int, w string) bool {
	end := i + len(w)
	if end > len(b) || end < len(b) && isIdentCont(b[end]) && b[end] != '$' {
		return false
	}
	for k := range len(w) {
		if lower(b[i+k]) != w[k] {
			return false
		}
	}
	return true
}

// begins reports whether a word may begin at i: what is in front of it is no part of one,
// or of an escape, or of a dollar quote's tag.
func begins[T ~string | ~[]byte](b T, i int) bool {
	const escape = 10 // \UXXXXXXXX
	for k := i - 1; k >= 0 && i-k <= escape; k-- {
		switch {
		case b[k] == '\\', k == i-1 && b[k] == '$':
			return true
		case !isIdentCont(b[k]):
			return k == i-1
		}
	}
	return i == 0
}

// deepCall notes a call of the function whose name ends in what begins at i, unless it is
// another schema's.
func deepCall[T ~string | ~[]byte](p *patterns, b T, i int) {
	for name := range valueFuncs {
		at := i - len(name) + len(secretSuffix)
		if at < 0 || !deepWord(b, at, name) || !begins(b, at) || deepOpen(b, i+len(secretSuffix)) < 0 {
			continue
		}
		if vault, qualified := deepSchema(b, at); vault || !qualified {
			p.call(name, vault)
		}
	}
}

// deepMember notes a call of what is, by a dot behind end, in the schema whose name begins
// at at.
func deepMember[T ~string | ~[]byte](p *patterns, b T, at, end int) {
	i := deepGap(b, end)
	if i >= len(b) || b[i] != '.' {
		return
	}
	if i = deepGap(b, i+1); i >= len(b) || !isIdentStart(b[i]) {
		return
	}
	var name string
	if looseUnicode(b, i) {
		name, end = deepUnicode(b, i)
	} else {
		for end = i; end < len(b) && isIdentCont(b[end]) && b[end] != '$'; end++ {
		}
		name = looseName(b, i, end)
	}
	open := deepOpen(b, end)
	switch {
	case open < 0, looseTable(p, b, deepWordBefore(b, at), name, open):
	case name == AnyName: // whatever it spells
		p.call(Put.String(), true)
	default:
		p.call(name, true)
		p.update = p.update || name == Update.String() && looseSecondString(b, open)
	}
}

// deepWordBefore is the word in front of the one at at, if it is not too long to matter.
func deepWordBefore[T ~string | ~[]byte](b T, at int) span {
	end := deepBack(b, at)
	i := end
	for i > 0 && end-i <= longestTableWord && isIdentCont(b[i-1]) && b[i-1] != '$' {
		i--
	}
	return span{i, end}
}

// deepEscaped notes a call of a name, or in a schema, that is spelled in escapes.
func deepEscaped[T ~string | ~[]byte](p *patterns, b T, at int) {
	name, end := deepUnicode(b, at)
	if name != AnyName {
		return
	}
	if i := deepGap(b, end); i < len(b) && b[i] == '.' {
		deepMember(p, b, at, end)
		return
	}
	if deepOpen(b, end) < 0 {
		return
	}
	if vault, qualified := deepSchema(b, at); vault || !qualified {
		p.call(Put.String(), vault)
	}
}

// deepUnicode is the identifier U&"…" at at, and where it ends, with what UESCAPE says.
func deepUnicode[T ~string | ~[]byte](b T, at int) (name string, end int) {
	end = looseEnd(b[:min(len(b), at+deepReach)], at)
	name = looseName(b, at, end)
	if i := deepGap(b, end); looseWord(b, i, "uescape") { // the character, in quotes that may be doubled
		return AnyName, min(deepGap(b, i+len("uescape"))+1, len(b))
	}
	return name, end
}

// deepSchema looks at what stands in front of a name: a schema, by a dot, and whether that
// may be the vault's.
func deepSchema[T ~string | ~[]byte](b T, at int) (vault, qualified bool) {
	i := deepBack(b, at)
	if i > 0 && b[i-1] == '/' { // a comment's end: who knows
		return true, true
	}
	if i == 0 || b[i-1] != '.' {
		return false, false
	}
	i = deepBack(b, i-1)
	if i > 0 && b[i-1] == '/' {
		return true, true
	}
	from := i
	for from > 0 && isIdentCont(b[from-1]) && b[from-1] != '$' {
		from--
	}
	name := max(from, i-len(schemaVault))
	if from > 0 && b[from-1] == '\\' { // the first character, or more, is no part of it, or nothing is
		return deepWord(b, name, schemaVault) || !letterEscape(b[from]) || i-from == 1, true
	}
	return name == from && deepWord(b, from, schemaVault), true
}

// letterEscape reports whether a backslash and c stand for one character.
func letterEscape(c byte) bool { return slices.Contains([]byte("bfnrtv"), c) }

// deepBack skips white space, and quotes with backslashes, in front of i.
func deepBack[T ~string | ~[]byte](b T, i int) int {
	for i > 0 && (isSpace(b[i-1]) || isQuote(b[i-1]) || b[i-1] == '\\' && i < len(b) && isQuote(b[i])) {
		i--
	}
	return i
}

func isQuote(c byte) bool { return c == '"' || c == '\'' }

// deepGap skips white space, quotes, escapes and comments behind i, within deepReach.
func deepGap[T ~string | ~[]byte](b T, i int) int {
	end := min(len(b), i+deepReach)
	for i < end {
		n := gapSize(b, i, end)
		if n == 0 {
			return i
		}
		i += n
	}
	return min(i, len(b))
}

// gapSize is how long the one is that begins at i.
func gapSize[T ~string | ~[]byte](b T, i, end int) int {
	two := i+1 < len(b)
	switch {
	case isSpace(b[i]) || isQuote(b[i]):
		return 1
	case two && b[i] == '\\' && escapeSize(b, i+1) > 0:
		return 1 + escapeSize(b, i+1)
	case two && b[i] == '-' && b[i+1] == '-':
		from := i
		for i < end && b[i] != '\n' && b[i] != '\r' {
			i++
		}
		return i - from
	case two && b[i] == '/' && b[i+1] == '*':
		return commentSize(b, i, end)
	}
	return 0
}

// commentSize is how long a comment is, with those in it.
func commentSize[T ~string | ~[]byte](b T, from, end int) int {
	i := from + 2
	for depth := 1; depth > 0 && i < end; i++ {
		two := i+1 < len(b)
		switch {
		case two && b[i] == '/' && b[i+1] == '*':
			depth++
			i++
		case two && b[i] == '*' && b[i+1] == '/':
			depth--
			i++
		}
	}
	return i - from
}

// escapeSize is how many bytes behind a backslash, from i on, stand for one character with
// it. That may be no white space: it errs towards a gap.
func escapeSize[T ~string | ~[]byte](b T, i int) int {
	digits := 0
	switch c := b[i]; {
	case isQuote(c), c == '\\', letterEscape(c):
		return 1
	case c == 'x', c == 'u', c == 'U':
		most := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
		for digits < most && i+1+digits < len(b) && isIdentCont(b[i+1+digits]) {
			digits++
		}
		return 1 + digits
	case c >= '0' && c <= '7':
		for digits < 3 && i+digits < len(b) && b[i+digits] >= '0' && b[i+digits] <= '7' {
			digits++
		}
	}
	return digits
}

// deepOpen is where the parenthesis is behind a name, or where it was looked for no
// further; -1: there is none.
func deepOpen[T ~string | ~[]byte](b T, from int) int {
	end := min(len(b), from+deepReach)
	i := from
	for i < end {
		n := gapSize(b, i, end)
		if n == 0 {
			break
		}
		if b[i] == '-' {
			if open := openBehind(b, i, min(i+n, len(b))); open >= 0 {
				return open
			}
		}
		i += n
	}
	if i < len(b) && (b[i] == '(' || i-from >= deepReach) {
		return i
	}
	return -1
}

// openBehind is where a parenthesis stands in the comment b[i:end] behind an escape, which
// may be a line's end, and so the comment's; -1: nowhere.
func openBehind[T ~string | ~[]byte](b T, i, end int) int {
	for ended := false; i < end; {
		n := 1
		switch {
		case b[i] == '\\' && i+1 < len(b) && escapeSize(b, i+1) > 0:
			n, ended = 1+escapeSize(b, i+1), true
		case b[i] == '*' && i+1 < len(b) && b[i+1] == '/': // of a comment behind the first
			n, ended = 2, true
		case b[i] == '(' && ended:
			return i
		case !isSpace(b[i]) && !isQuote(b[i]):
			ended = false
		}
		i += n
	}
	return -1
}
