// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rewrite

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
)

// A saying is what a server says of a text: the types of its parameters, or the
// error.
type saying struct {
	types []uint32
	code  string
	at    int // the error's position; 0: none
}

// said is an error as a saying; nil is none.
func said(t *testing.T, sql string, err error) saying {
	t.Helper()
	var e *pgconn.PgError
	switch {
	case err == nil:
		return saying{}
	case !errors.As(err, &e):
		t.Fatalf("%q: %v", sql, err)
	}
	return saying{code: e.Code, at: int(e.Position)}
}

// describe sends a text by Parse and Describe.
func (l *listener) describe(t *testing.T, sql string, declared []uint32) saying {
	t.Helper()
	d, err := l.conn.Prepare(t.Context(), "", sql, declared)
	s := said(t, sql, err)
	if d != nil && err == nil {
		s.types = d.ParamOIDs
	}
	return s
}

// moved is where an error of the client's text is shown by the node: one inside a
// value, at its start.
func (s saying) moved(p *Plan, sql string) saying {
	for _, c := range p.Calls {
		start, end := c.Value.Start, c.Value.End
		if c.Value.Mode == Const && s.at > runes(sql[:start]) && s.at <= runes(sql[:end]) {
			s.at = runes(sql[:start]) + 1
		}
	}
	return s
}

func runes(s string) int { return len([]rune(s)) }

// compareParse compares what a server says of a text in the extended protocol
// with what it says of the one that we would send: the same parameters, and
// behind them one of type text for each value, or the same error at the same
// place.
func compareParse(t *testing.T, a *Analyzer, l *listener, sql string) string {
	t.Helper()
	plan, refusal := a.Analyze(sql, Options{Extended: true, StdStrings: l.std, Settled: true, Encoding: "UTF8"})
	if refusal != nil || plan == nil {
		return "parse: not looked at"
	}
	want := l.describe(t, sql, nil).moved(plan, sql)
	if want.code == stateBadCharacters && !utf8.ValidString(sql) {
		return "parse: not UTF-8" // as for a simple query
	}
	spliced, calls := plan.SpliceParse(nil, sql, plan.NumParams)
	var declared []uint32
	if len(calls) > 0 { // as the proxy does
		declared = make([]uint32, plan.NumParams, plan.NumParams+len(calls))
		for range calls {
			declared = append(declared, oidText)
		}
	}
	got := l.describe(t, string(spliced), declared)
	if got.at > 0 {
		got.at = plan.MapPosition(sql, got.at, Sent{Extended: true, OwnBase: plan.NumParams})
	}
	if want.code == "" {
		for range calls {
			want.types = append(slices.Clone(want.types), oidText)
		}
	}
	if want.code != got.code || want.at != got.at || !slices.Equal(want.types, got.types) {
		t.Errorf("standard_conforming_strings %t, %q: the server says %+v, and %+v of %q", l.std, sql, want, got, spliced)
		return "disagreed"
	}
	switch {
	case want.at > 0:
		return "parse: failed somewhere"
	case want.code != "":
		return "parse: failed"
	case len(want.types) > len(calls):
		return "parse: has parameters of its own"
	}
	return "parse: agreed"
}

// pieces make a text that is read without an error by the grammar, and mostly has
// one beyond it, or parameters.
var pieces = []string{
	"nowhere", "nofunc('é')", `"ö"`, "1 + 'ä'::nosuchtype", "$1::int + 2", "$2::text", "$3", "length($1)", "'鍵🔑' || $2", "1/0",
	"vault.read_secret('ä')::text", "CAST(vault.read_secret($1) AS text)", "vault.rotate_secret('é')", "vault.rotate_secret(name => 'n')",
	"vault.put_secret($1, $2)", "vault.put_secret('ñ', $4, description => $1)", "vault.put_secret('n', $1::text)", "(SELECT 'x' COLLATE nowhere)",
	"vault.put_secret('n', CAST('v'AS text))", "vault.put_secret(name=>'n',value=>CAST(text'v'AS varchar))", "vault.put_secret('n', CAST($$v$$AS text))",
	"'x' AS ü", "1 = ANY($2)", "vault.put_secret('n', 'ä', nowhere => 1)", "vault.put_secret('n', 'v', $5)", "'a' + true", "ROW(é.x)",
}

// compose makes a text of pieces, constants and calls.
func compose(rng *rand.Rand) string {
	text := []string{"", "/* 鍵 */ ", "-- é\n", "\t"}[rng.IntN(4)] + "SELECT "
	for i := range 1 + rng.IntN(4) {
		if i > 0 {
			text += []string{", ", " , /* þ' */ ", ",\n"}[rng.IntN(3)]
		}
		switch rng.IntN(3) {
		case 0:
			text += pieces[rng.IntN(len(pieces))]
		case 1:
			text += constant(rng)
		default:
			text += fmt.Sprintf("%s('é%d', %s)", callees[rng.IntN(len(callees))], i, constant(rng))
		}
	}
	return text + []string{"", " FROM nowhere", " WHERE é", " LIMIT $1", " ORDER BY 9"}[rng.IntN(5)]
}
