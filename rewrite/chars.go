// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import "strings"

// pieceEnd returns the end of the quoted piece whose opening quote is at i.
func pieceEnd(s string, i int, k kind, std bool) (int, bool) {
	backslash := k == kindEscape || k == kindString && !std
	for i++; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if backslash {
				i++
			}
		case '\'':
			if k != kindBits && i+1 < len(s) && s[i+1] == '\'' {
				i++
				continue
			}
			return i + 1, true
		}
	}
	return 0, false
}

// continuation reports whether the literal that ends at i goes on: white space
// with at least one newline, in which there may be -- comments, and a quote,
// whose place it returns.
func continuation(s string, i int) (int, bool) {
	newline := false
	for i < len(s) {
		switch c := s[i]; {
		case c == '\n' || c == '\r':
			newline = true
			i++
		case isSpace(c):
			i++
		case c == '-' && i+1 < len(s) && s[i+1] == '-':
			i = lineEnd(s, i)
		case c == '\'':
			return i, newline
		default:
			return 0, false
		}
	}
	return 0, false
}

// numberEnd returns the end of the number at i.
func numberEnd(s string, i int) int { //nolint:cyclop // the scanner's rules, one after the other
	if s[i] == '0' && i+1 < len(s) {
		base := "0123456789"
		switch lower(s[i+1]) {
		case 'x':
			base += "abcdefABCDEF"
		case 'o':
			base = base[:8]
		case 'b':
			base = base[:2]
		default:
			base = ""
		}
		if end := digits(s, i+2, base); end > i+2 {
			return end
		}
	}
	const decimal = "0123456789"
	start := i
	i = digits(s, i, decimal)
	// 1..2 is a range; with an underscore in it, to scan.l it is none.
	ranged := i+1 < len(s) && s[i+1] == '.' && strings.IndexByte(s[start:i], '_') < 0
	if i < len(s) && s[i] == '.' && !ranged {
		i++
		if i < len(s) && isDigit(s[i]) {
			i = digits(s, i, decimal)
		}
	}
	if i < len(s) && lower(s[i]) == 'e' {
		j := i + 1
		if j < len(s) && (s[j] == '+' || s[j] == '-') {
			j++
		}
		if j < len(s) && isDigit(s[j]) {
			return digits(s, j, decimal)
		}
	}
	return i
}

// digits returns the end of the digits at i, between which there may be single
// underscores.
func digits(s string, i int, base string) int {
	for i < len(s) {
		j := i
		if s[j] == '_' {
			j++
		}
		if j >= len(s) || strings.IndexByte(base, s[j]) < 0 {
			break
		}
		i = j + 1
	}
	return i
}

func lineEnd(s string, i int) int {
	for i < len(s) && s[i] != '\n' && s[i] != '\r' {
		i++
	}
	return i
}

// What a byte can be; see class.
const (
	classSpace      = 1 << iota // \v, too: white space from PostgreSQL 17 on, a syntax error before
	classDigit                  // 0-9
	classHex                    // 0-9 a-f A-F
	classIdentStart             // letters, _ and everything that is not ASCII
	classIdentCont              // the same, digits and $
	classOp                     // what operators are made of
)

// class is what each byte can be to PostgreSQL's scanner.
var class = func() (t [256]uint8) {
	mark := func(chars string, bits uint8) {
		for i := range len(chars) {
			t[chars[i]] |= bits
		}
	}
	mark(" \t\n\r\f\v", classSpace)
	mark("0123456789", classDigit|classHex|classIdentCont)
	mark("abcdefABCDEF", classHex)
	mark("_", classIdentStart|classIdentCont)
	mark("$", classIdentCont)
	mark("~!@#^&|`?+-*/%<>=", classOp)
	for c := range t {
		if l := lower(byte(c)); l >= 'a' && l <= 'z' || c >= 0x80 {
			t[c] |= classIdentStart | classIdentCont
		}
	}
	return t
}()

func isSpace(c byte) bool      { return class[c]&classSpace != 0 }
func isDigit(c byte) bool      { return class[c]&classDigit != 0 }
func isHex(c byte) bool        { return class[c]&classHex != 0 }
func isIdentStart(c byte) bool { return class[c]&classIdentStart != 0 }
func isIdentCont(c byte) bool  { return class[c]&classIdentCont != 0 }
func isOpChar(c byte) bool     { return class[c]&classOp != 0 }

// isEscapeChar is PostgreSQL's check_uescapechar.
func isEscapeChar(c byte) bool {
	return !isHex(c) && c != '+' && c != '\'' && c != '"' && !isSpace(c) && c < 0x80
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
