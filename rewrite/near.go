// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// near refuses a call that is not in schema vault and looks as if it should be:
// "VAULT"."Put_Secret"(…), "vault.put_secret"(…), hyperion_vault.put_secret(…), or one
// with a space in a name that is not ASCII. The server would refuse and log it.
func (b *builder) near(fc *pg.FuncCall) *Refusal {
	at := b.lx.tokenAt(int(fc.Location))
	if at < 0 {
		return nil
	}
	schema := ""
	for at+2 < len(b.lx.toks) && b.lx.toks[at+1].is(b.sql, '.') {
		schema = b.nearName(at)
		at += 2
	}
	name := b.nearName(at)
	switch {
	case !valueName(name), schema == "" && valueFuncs[name] != 0: // none, or the bare name: see funcCall
		return nil
	case schema == "", vaultName(schema):
		return refuseSpelling(int(fc.Location))
	}
	return nil
}

// nearName is the name at a token, if the cached plans are of texts with this name.
func (b *builder) nearName(at int) string {
	t := b.lx.toks[at]
	if t.kind != kindIdent && t.body-t.start > maxKnownIdent {
		return ""
	}
	name, _ := identName(b.sql, t)
	return name
}

// typeName refuses a type of such a function's name beside a string: vault::put_secret(…),
// put_secret 'a'.
func (b *builder) typeName(t *pg.TypeName) {
	names := strs(t.Names)
	n := len(names)
	if n == 0 || valueFuncs[names[n-1]] == 0 || n > 1 && names[n-2] != schemaVault || b.node.GetCommentStmt() != nil || b.node.GetCreateStmt() != nil {
		return
	}
	if b.stringsIn(0, len(b.lx.toks)) > 0 {
		b.refuse(refuseNoCall(int(t.Location)))
	}
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

// valueName reports whether name is that of a function that takes a value, in any
// case, or holds it between characters of which no such name consists.
func valueName(name string) bool {
	return holdsWord(name, func(w string) bool { return valueFuncs[w] != 0 })
}

// vaultName reports the same of the extension's schema, or its own name.
func vaultName(name string) bool {
	return holdsWord(name, func(w string) bool { return w == schemaVault || w == "hyperion_vault" })
}

// holdsWord looks at what stands between blanks, dots and characters that are not
// ASCII: "app-vault" is another name.
func holdsWord(name string, wanted func(string) bool) bool {
	name = strings.ToLower(name)
	if wanted(name) {
		return true
	}
	for w := range strings.FieldsFuncSeq(name, func(r rune) bool { return r >= 0x80 || r == '.' || r <= ' ' }) {
		if wanted(w) {
			return true
		}
	}
	return false
}
