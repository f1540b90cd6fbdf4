// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"bytes"
	"strings"
)

// The two words of which a text must hold one to concern the vault.
const (
	wordVault  = "vault"
	wordSecret = "_secret"
)

// Mentions reports whether the text can concern the vault: whether it holds
// "vault" or "_secret" in any case, or an identifier with Unicode escapes,
// which can spell anything. It never misses one; a false alarm costs an
// analysis. It does not allocate.
//
// Each word is looked for by its first byte, which the library finds with
// vector instructions; v, _ and & are rare enough in SQL for that to win over
// any method that looks at more of them at once.
func Mentions(sql []byte) bool {
	return mentionsFrom(sql, 'v', wordVault) || mentionsFrom(sql, 'V', wordVault) ||
		mentionsFrom(sql, '_', wordSecret) || mentionsUnicode(sql)
}

// mentionsFrom reports whether word, in any case but for its first byte, which
// is first, stands in the text.
func mentionsFrom(sql []byte, first byte, word string) bool {
	for {
		i := bytes.IndexByte(sql, first)
		if i < 0 {
			return false
		}
		sql = sql[i+1:]
		if hasFold(sql, word[1:]) {
			return true
		}
	}
}

// mentionsUnicode reports whether the text holds U&" in either case.
func mentionsUnicode(sql []byte) bool {
	for at := 0; ; {
		i := bytes.IndexByte(sql[at:], '&')
		if i < 0 {
			return false
		}
		i += at
		if i > 0 && sql[i-1]|0x20 == 'u' && i+1 < len(sql) && sql[i+1] == '"' {
			return true
		}
		at = i + 1
	}
}

// mentionsText is Mentions for a string, without its speed and but for identifiers
// with escapes: to convert the string would leave a copy of the text behind.
func mentionsText(sql string) bool { return holds(sql, wordVault) || holds(sql, wordSecret) }

// holds reports whether word stands in the text, in any case.
func holds(sql, word string) bool {
	for i := range len(sql) - len(word) + 1 {
		if equalFold(sql[i:], word) {
			return true
		}
	}
	return false
}

// MentionsPrepared reports whether the text may execute a prepared statement, or
// make one: whether it holds the word EXECUTE or PREPARE. A session that meant to
// prepare a put must have such texts analysed too, because EXECUTE's arguments are
// part of the text. It does not allocate.
func MentionsPrepared(sql []byte) bool {
	const word, prepare = "execute", "prepare"
	// x is the rarest letter of the word; e stands before it.
	return executeFrom(sql, 'x', word[2:]) || executeFrom(sql, 'X', word[2:]) ||
		mentionsFrom(sql, 'p', prepare) || mentionsFrom(sql, 'P', prepare)
}

// executeFrom reports whether e, x and rest stand in the text.
func executeFrom(sql []byte, x byte, rest string) bool {
	for at := 0; ; {
		i := bytes.IndexByte(sql[at:], x)
		if i < 0 {
			return false
		}
		at += i + 1
		if at >= 2 && sql[at-2]|0x20 == 'e' && hasFold(sql[at:], rest) {
			return true
		}
	}
}

// hasFold reports whether b begins with word, which is lower case, in any case.
func hasFold(b []byte, word string) bool {
	if len(b) < len(word) {
		return false
	}
	for i := range len(word) {
		if lower(b[i]) != word[i] {
			return false
		}
	}
	return true
}

// lower is PostgreSQL's own folding of identifiers in a UTF-8 database: ASCII only.
func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 0x20
	}
	return c
}

// firstNamed is the function of the vault that the text names first, in whatever
// place; empty: none. Of names that are ordinary words only those in schema vault count.
func firstNamed(sql string) string {
	var word [maxFunction]byte
	for i := 0; i < len(sql); i++ {
		at := i
		for ; i < len(sql) && isIdentCont(sql[i]) && sql[i] != '$'; i++ {
			if n := i - at; n < len(word) {
				word[n] = lower(sql[i])
			}
		}
		if i == at || i-at > len(word) {
			continue
		}
		f := signatureOf[string(word[:i-at])]
		if f == nil || f.internal {
			continue
		}
		if inVault, _ := deepSchema(sql, at); inVault || strings.HasSuffix(f.name, secretSuffix) {
			return f.name
		}
	}
	return ""
}
