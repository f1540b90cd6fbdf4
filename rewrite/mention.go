// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import "bytes"

// The two words that a text must hold to concern the vault. Only the first
// mentionLen bytes of each are looked for when skipping.
const (
	wordVault  = "vault"
	wordSecret = "_secret"
	mentionLen = 5
)

// mentionSkip says how far the scan may move on when the byte at the window's
// end is b: the distance of b from the end of "vault" or "_secr", whichever is
// smaller, or the whole window (Wu and Manber's method with blocks of one).
var mentionSkip = func() (skip [256]uint8) {
	for i := range skip {
		skip[i] = mentionLen
	}
	for _, word := range []string{wordVault, wordSecret} {
		for i := range mentionLen {
			d := uint8(mentionLen - 1 - i) //nolint:gosec // 0..4
			c := word[i]
			skip[c] = min(skip[c], d)
			if c >= 'a' && c <= 'z' {
				skip[c-0x20] = min(skip[c-0x20], d)
			}
		}
	}
	return skip
}()

// Mentions reports whether the text can concern the vault: whether it holds
// "vault" or "_secret" in any case, or an identifier with Unicode escapes,
// which can spell anything. It never misses one; a false alarm costs an
// analysis. It does not allocate.
func Mentions(sql []byte) bool {
	for i := mentionLen - 1; i < len(sql); {
		skip := mentionSkip[sql[i]]
		if skip > 0 {
			i += int(skip)
			continue
		}
		at := i - (mentionLen - 1)
		if hasFold(sql[at:], wordVault) || hasFold(sql[at:], wordSecret) {
			return true
		}
		i++
	}
	return mentionsUnicode(sql)
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

// MentionsExecute reports whether the text may execute a prepared statement:
// whether it holds the word EXECUTE. A session that prepared a put through the
// protocol must have such texts analysed too, because EXECUTE's arguments are
// part of the text. It does not allocate.
func MentionsExecute(sql []byte) bool {
	const word = "execute"
	for at := 0; ; {
		// x is the rarest letter of the word.
		i := bytes.IndexAny(sql[at:], "xX")
		if i < 0 {
			return false
		}
		i += at
		if i > 0 && hasFold(sql[i-1:], word) {
			return true
		}
		at = i + 1
	}
}

// hasFold reports whether b begins with word, which is lower case, in any
// case. '_' has no other case: b's '_' and 0x7F must not be mixed up.
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
