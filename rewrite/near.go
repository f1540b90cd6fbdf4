// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// near refuses a call that is not in schema vault and looks as if it should be:
// "VAULT"."Put_Secret"(…), or one with a space in a name that is not ASCII. The
// server would refuse and log it.
func (b *builder) near(fc *pg.FuncCall) *Refusal {
	at := b.lx.tokenAt(int(fc.Location))
	if at < 0 {
		return nil
	}
	schema := ""
	for at+2 < len(b.lx.toks) && b.lx.toks[at+1].is(b.sql, '.') {
		schema, _ = identName(b.sql, b.lx.toks[at])
		at += 2
	}
	name, _ := identName(b.sql, b.lx.toks[at])
	switch {
	case strings.EqualFold(schema, schemaVault) && valueFuncs[strings.ToLower(name)] != 0:
		return refuseSchema(int(fc.Location))
	case isASCII(schema) && isASCII(name):
		return nil
	case valueName(name) && (schema == "" || holdsWord(schema, func(w string) bool { return w == schemaVault })):
		return refuseSpelling(int(fc.Location))
	}
	return nil
}

// meant reports whether the tokens name a function that takes a value, and hold a
// string that may be one: however the call is meant.
func meant(sql string, toks []token) bool {
	named, value := false, false
	for _, t := range toks {
		if t.literal() {
			value = true
		} else if name, ok := identName(sql, t); ok && !named {
			named = valueName(name)
		}
		if named && value {
			return true
		}
	}
	return false
}

// valueName reports whether name is that of a function that takes a value, or holds
// it between characters that are not ASCII.
func valueName(name string) bool {
	return holdsWord(name, func(w string) bool { return valueFuncs[w] != 0 })
}

// holdsWord reports whether a name, or a part of it between characters that are not
// ASCII, is wanted; in small letters.
func holdsWord(name string, wanted func(string) bool) bool {
	if isASCII(name) {
		return wanted(strings.ToLower(name))
	}
	for w := range strings.FieldsFuncSeq(strings.ToLower(name), func(r rune) bool { return r >= 0x80 }) {
		if wanted(w) {
			return true
		}
	}
	return false
}
