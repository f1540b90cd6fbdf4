// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// spell writes a value as a literal of some form; ok is false if that form
// cannot hold it.
func spell(value string, form uint8, std bool) (text string, ok bool) {
	doubled := strings.ReplaceAll(value, "'", "''")
	escaped := strings.ReplaceAll(strings.ReplaceAll(value, `\`, `\\`), "'", `\'`)
	var b strings.Builder
	switch form % 8 {
	case 0:
		if !std {
			doubled = strings.ReplaceAll(doubled, `\`, `\\`)
		}
		return "'" + doubled + "'", true
	case 1:
		return "E'" + escaped + "'", true
	case 2: // a piece a character
		for i, r := range value {
			if i > 0 {
				b.WriteString("'\n\t'")
			}
			b.WriteString(strings.ReplaceAll(strings.ReplaceAll(string(r), `\`, `\\`), "'", "''"))
		}
		return "E'" + b.String() + "'", true
	case 3:
		for i := range len(value) {
			fmt.Fprintf(&b, `\%03o`, value[i])
		}
		return "e'" + b.String() + "'", true
	case 4:
		for _, r := range value {
			fmt.Fprintf(&b, `!+%06x`, r)
		}
		return "U&'" + b.String() + "' UESCAPE '!'", std
	case 5:
		for _, r := range value {
			if r > 0xFFFF {
				r -= 0x10000
				fmt.Fprintf(&b, `\u%04X\U%08x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
				continue
			}
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		return "E'" + b.String() + "'", true
	case 6:
		return "$v$" + value + "$v$", !strings.Contains(value+"$", "$v$")
	}
	return "text '" + doubled + "'", std || !strings.Contains(value, `\`)
}

// FuzzSplice writes a value as a constant of a call and looks at what goes to
// the server: the constant reads as the value, nothing of it is in what is
// sent, and all else is.
func FuzzSplice(f *testing.F) {
	for form := range uint8(8) {
		f.Add("it's \\ a\nv\u00e4lue 🔑", form, true, false)
		f.Add(`C:\new\x41''`, form, false, true)
	}
	f.Fuzz(func(t *testing.T, value string, form uint8, std, extended bool) {
		if value == "" || !utf8.ValidString(value) || strings.ContainsRune(value, 0) || len(value) > 1000 {
			return
		}
		constant, ok := spell(value, form, std)
		if !ok {
			return
		}
		sql := "SELECT vault.put_secret('a/b', /*c*/ " + constant + " , 'd') AS x"
		p, r := testAnalyzer().Analyze(sql, Options{StdStrings: std, Settled: true, Extended: extended, Encoding: "UTF8"})
		if r != nil || len(p.Calls) != 1 {
			t.Fatalf("%q: %v", sql, r)
		}
		got, err := p.DecodeValue(nil, sql, 0)
		if err != nil || string(got) != value {
			t.Fatalf("%q reads as %q (%v), want %q", constant, got, err, value)
		}
		sent, want := p.SpliceQuery(nil, sql, [][]byte{[]byte("hv1.X")}), "'hv1.X'"
		if extended {
			sent, _ = p.SpliceParse(nil, sql, 0)
			want = "$1"
		}
		if want = "SELECT vault.put_secret('a/b', /*c*/ " + want + " , 'd') AS x"; string(sent) != want {
			t.Fatalf("%q became %q, want %q", sql, sent, want)
		}
	})
}
