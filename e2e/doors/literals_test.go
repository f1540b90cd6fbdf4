// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package doors

import (
	"fmt"
	"strings"

	"github.com/hyperiondb/hyperion-vault/cmd/canary"
)

// A literal is a spelling of a constant. What it stands for is known by the way
// in which it is made, not by reading it.
type literal struct {
	name string
	// write is the constant's text.
	write func(c *canary.Canary) string
	// middle stands between the canary's halves; off is what it is while
	// standard_conforming_strings is off, if that differs.
	middle, off string
	// around is what stands around the constant, or the parameter in its place.
	around string
	// states are those with which a node refuses it; a parameter in its place
	// is refused only if alsoParam.
	states    []string
	alsoParam bool
	// mayFail: with the setting off the server itself would not take it.
	mayFailOff bool
}

// touchy: bytes in it are read differently under some settings.
func (l literal) touchy(c *canary.Canary) bool {
	text := strings.ReplaceAll(l.write(c), "$þ_1$", "") // a tag's letters do not matter
	return strings.ContainsFunc(text, func(r rune) bool { return r == '\\' || r >= 0x80 })
}

func plain(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// around the middle: head, what is written for it, and tail.
func form(before, written, after string) func(c *canary.Canary) string {
	return func(c *canary.Canary) string { return before + c.Head + written + c.Tail + after }
}

func escaped(text, format string) string {
	var b strings.Builder
	for i := range len(text) {
		fmt.Fprintf(&b, format, text[i])
	}
	return b.String()
}

var goodLiterals = []literal{
	{name: "plain", write: form("'", "", "'")},
	{name: "doubled quotes", write: form("'", "it''s ''", "'"), middle: "it's '"},
	{name: "backslashes", write: form("'", `\n\\\x41\q`, "'"), middle: `\n\\\x41\q`, off: "\n\\Aq"},
	{name: "lines", write: form("'", "\r\n\t\f", "'"), middle: "\r\n\t\f"},
	{name: "other letters", write: form("'", "þ鍵🔑", "'"), middle: "þ鍵🔑"},
	{name: "looks like an end", write: form("'", "$$ /* -- \" $1 ; ", "'"), middle: "$$ /* -- \" $1 ; "},
	{name: "E", write: form("E'", `\n\'\\''\b\f\r\t\q`, "'"), middle: "\n'\\'\b\f\r\tq"},
	{name: "E with codes", write: form("e'", `\x41\102\u0043\U00000044\x4a\007`, "'"), middle: "ABCDJ\a"},
	{name: "E with a pair", write: form("E'", `\ud83d\udd11\xc3\xbe`, "'"), middle: "🔑þ"},
	{name: "E of escapes only", write: func(c *canary.Canary) string {
		return "E'" + c.Spelled(escaped(c.Head, `\x%02x`)) + c.Spelled(escaped(c.Tail, `\%03o`)) + "'"
	}},
	{name: "U&", write: form("U&'", `\0041\+01F511\\''`, "'"), middle: `A🔑\'`, mayFailOff: true},
	{name: "u& of escapes only", write: func(c *canary.Canary) string {
		return "u&'" + c.Spelled(escaped(c.Head, `\%04x`)) + c.Spelled(escaped(c.Tail, `\+%06x`)) + "'"
	}, mayFailOff: true},
	{name: "UESCAPE", write: form("U&'", `!0041!!\n`, "' uescape '!'"), middle: `A!\n`, mayFailOff: true},
	{name: "UESCAPE behind comments", write: form("U&'", `?0041`, "' /* ' */ UESCAPE -- '\n '?'"), middle: "A", mayFailOff: true},
	{name: "dollars", write: form("$$", `'\n$ $1$`, "$$"), middle: `'\n$ $1$`},
	{name: "tag", write: form("$tag$", `$$ $Tag$ \ '`, "$tag$"), middle: `$$ $Tag$ \ '`},
	{name: "tag of other letters", write: form("$þ_1$", `$$$`, "$þ_1$"), middle: `$$$`},
	{name: "N", write: form("N'", "''", "'"), middle: "'"},
	{name: "n", write: form("n'", "", "'")},
	{name: "two lines", write: form("'", "'\n \t'", "'"), middle: ""},
	{name: "three lines with comments", write: form("'", "a' -- it's\r\n--\n'b'\n\n'", "'"), middle: "ab"},
	{name: "E on two lines", write: form("E'", `\\'`+"\n"+`'\t`, "'"), middle: "\\\t"},
	{name: "U& on two lines", write: form("U&'", `\00'`+"\f\n"+`'41`, "'"), middle: "A", mayFailOff: true},
	{name: "type in front", write: form("text '", "", "'")},
	{name: "varchar in front", write: form("pg_catalog.varchar $$", "'", "$$"), middle: "'"},
	{name: "character varying in front", write: form("character varying E'", `\'`, "'"), middle: "'"},
	{name: "colons", write: form("'", "", "'"), around: "%s::text"},
	{name: "colons, qualified", write: form("E'", `\'`, "'"), middle: "'", around: "%s :: pg_catalog . text"},
	{name: "CAST", write: form("'", "", "'"), around: "CAST ( %s AS varchar )"},
	{name: "parentheses", write: form("$$", "", "$$"), around: "( ( %s ) )"},
	{name: "casts and parentheses", write: form("'", "", "'"), around: "((%s)::character varying)::text"},
	{name: "comments around", write: form("'", "--", "'"), middle: "--", around: "/* ' */ %s -- $$\n"},
}

var badLiterals = []literal{
	{name: "concatenation", write: form("'", "", "'"), around: "%s || 'x'", states: []string{"0A000"}, alsoParam: true},
	{name: "function", write: form("'", "", "'"), around: "upper(%s)", states: []string{"0A000"}, alsoParam: true},
	{name: "format", write: form("'", "", "'"), around: "format('%%s', %s)", states: []string{"0A000"}, alsoParam: true},
	{name: "subselect", write: form("'", "", "'"), around: "(SELECT %s)", states: []string{"0A000"}, alsoParam: true},
	{name: "array element", write: form("'", "", "'"), around: "(ARRAY[%s])[1]", states: []string{"0A000"}, alsoParam: true},
	{name: "coalesce", write: form("'", "", "'"), around: "coalesce(%s, 'x')", states: []string{"0A000"}, alsoParam: true},
	{name: "case", write: form("'", "", "'"), around: "CASE WHEN true THEN %s END", states: []string{"0A000"}, alsoParam: true},
	{name: "collate", write: form("'", "", "'"), around: `%s COLLATE "C"`, states: []string{"0A000"}, alsoParam: true},
	{name: "cast to bytea", write: form("'", "", "'"), around: "%s::bytea::text", states: []string{"0A000"}, alsoParam: true},
	{name: "cast with length", write: form("'", "", "'"), around: "%s::varchar(100)", states: []string{"0A000"}, alsoParam: true},
	{name: "cast to char", write: form("'", "", "'"), around: "%s::char(100)", states: []string{"0A000"}, alsoParam: true},
	{name: "cast to json", write: form(`'"`, "", `"'`), around: "%s::json", states: []string{"0A000"}, alsoParam: true},
	{name: "cast to a domain", write: form("'", "", "'"), around: "%s::word_0", states: []string{"0A000"}, alsoParam: true},
	{name: "cast to an array", write: form("'{", "", "}'"), around: "(%s::text[])", states: []string{"0A000"}, alsoParam: true},
	{name: "name in front", write: form("name '", "", "'"), states: []string{"0A000"}},
	{name: "json in front", write: form(`json '"`, "", `"'`), states: []string{"0A000"}},
	{name: "bits", write: form("B'", "", "'"), states: []string{"0A000", "42601"}},
	{name: "hex", write: form("X'", "", "'"), states: []string{"0A000", "42601"}},
	{name: "double quotes", write: form(`"`, "", `"`), states: []string{"0A000"}},
	{name: "U& double quotes", write: form(`U&"`, `\0041`, `"`), states: []string{"0A000"}},
	{name: "no quotes", write: form("", "", ""), states: []string{"0A000", "42601"}},
	{name: "E with \\v", write: form("E'", `\v`, "'"), states: []string{"22025"}},
	{name: "E with a bad \\u", write: form("E'", `\u00zz`, "'"), states: []string{"22025"}},
	{name: "E with half a pair", write: form("E'", `\ud83d`, "'"), states: []string{"42601"}},
	{name: "E with bytes", write: form("E'", `\xff\xfe`, "'"), states: []string{"22021"}},
	{name: "E with a zero", write: form("E'", `\000`, "'"), states: []string{"22021"}},
	{name: "bad U&", write: form("U&'", `\00z`, "'"), states: []string{"42601", "0A000"}},
	{name: "bad UESCAPE", write: form("U&'", ``, "' UESCAPE '+'"), states: []string{"42601", "0A000"}},
	{name: "no end", write: form("'", "", ""), states: []string{"42601"}},
	{name: "no end of dollars", write: form("$a$", "", "$b$"), states: []string{"42601"}},
	{name: "comment without end", write: form("'", "", "' /* "), states: []string{"42601"}},
	{name: "junk behind", write: form("'", "", "' 1"), states: []string{"42601"}},
	{name: "two on one line", write: form("'", "' '", "'"), states: []string{"42601"}},
}
