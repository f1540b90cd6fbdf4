// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

// identName is the name that an identifier token stands for, folded and
// unquoted; false if it is none or cannot be read.
func identName(sql string, t token) (string, bool) {
	switch t.kind { //nolint:exhaustive // the kinds that are names
	case kindIdent:
		return foldIdent(t.text(sql)), true
	case kindQuoted:
		return unquote(sql[t.start+1 : t.end-1]), true
	case kindUnicodeIdent:
		s := sink{}
		u := unicodeState{lit: literal{kind: kindUnicodeIdent, escape: t.escape}}
		if u.piece(&s, sql, t.start+3, t.body-1) != nil || u.finish(t.body) != nil {
			return "", false
		}
		return string(s.buf), true
	}
	return "", false
}

// foldIdent lowers ASCII letters; it allocates only if there are upper-case ones.
func foldIdent(s string) string {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for i := range b {
				b[i] = lower(b[i])
			}
			return string(b)
		}
	}
	return s
}

// unquote undoubles the quotes of a quoted identifier.
func unquote(s string) string {
	for i := range len(s) {
		if s[i] != '"' {
			continue
		}
		b := make([]byte, 0, len(s))
		for i := 0; i < len(s); i++ {
			b = append(b, s[i])
			if s[i] == '"' {
				i++
			}
		}
		return string(b)
	}
	return s
}
