// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func mustPlan(t testing.TB, sql string, o Options) *Plan {
	t.Helper()
	o.StdStrings, o.Settled = true, true
	p, r := testAnalyzer().Analyze(sql, o)
	if r != nil || p == nil {
		t.Fatalf("%s: %v %v", sql, p, r)
	}
	return p
}

func TestSpliceParseOwnBase(t *testing.T) {
	const sql = "select vault.put_secret($1, 'one'), vault.rotate_secret('b'), vault.put_secret('c', $2), vault.put_secret('d', 'two')"
	p := mustPlan(t, sql, Options{Extended: true})
	text, appended := p.SpliceParse([]byte("pre "), sql, 7)
	const want = "pre select vault.put_secret($1, $8), vault.rotate_secret('b', value => $9), vault.put_secret('c', $2), vault.put_secret('d', $10)"
	if string(text) != want || !slices.Equal(appended, []int{0, 1, 3}) {
		t.Errorf("got %s %v", text, appended)
	}
}

// TestMapPosition marks a place in the client's text with ¦ and the place in
// the text sent to which the server would point with the same mark.
func TestMapPosition(t *testing.T) {
	for _, c := range []struct {
		client, sent string
		extended     bool
	}{
		{"¦select vault.put_secret('a', 's3cret')", "¦select vault.put_secret('a', 'hv1.LONGLONG')", false},
		{"select ¦vault.put_secret('a', 's3cret')", "select ¦vault.put_secret('a', 'hv1.LONGLONG')", false},
		{"select vault.put_secret('a',¦ 's3cret')", "select vault.put_secret('a',¦ 'hv1.LONGLONG')", false},
		{"select vault.put_secret('a', ¦'s3cret')", "select vault.put_secret('a', ¦'hv1.LONGLONG')", false},
		{"select vault.put_secret('a', ¦'s3cret')", "select vault.put_secret('a', 'hv1.LON¦GLONG')", false},
		{"select vault.put_secret('a', 's3cret'¦)", "select vault.put_secret('a', 'hv1.LONGLONG'¦)", false},
		{"select vault.put_secret('a', 's3cret') ¦x", "select vault.put_secret('a', 'hv1.LONGLONG') ¦x", false},
		{"select 'ä€', vault.put_secret('a', 'ööö'), ¦ü", "select 'ä€', vault.put_secret('a', 'hv1.LONGLONG'), ¦ü", false},
		{"select vault.rotate_secret('a'¦)", "select vault.rotate_secret('a', va¦lue => 'hv1.LONGLONG')", false},
		{"select vault.rotate_secret('a'¦)", "select vault.rotate_secret('a', value => 'hv1.LONGLONG'¦)", false},
		{"select vault.rotate_secret('a'), ¦x", "select vault.rotate_secret('a', value => 'hv1.LONGLONG'), ¦x", false},
		{"select vault.put_secret(/*ä*/'a', 'a long long value'), ¦x", "select vault.put_secret(/*ä*/'a', $1), ¦x", true},
		{"select vault.put_secret(/*ä*/'a', ¦'a long long value'), x", "select vault.put_secret(/*ä*/'a', $¦1), x", true},
		{"select vault.put_secret('a', 'one'), vault.put_secret('b', 'two'), ¦x", "select vault.put_secret('a', $1), vault.put_secret('b', $2), ¦x", true},
		{"select vault.put_secret('a', cast('one'as text)), ¦x", "select vault.put_secret('a', cast($1 as text)), ¦x", true},
		{"select vault.put_secret('a', cast('one'¦as text)), x", "select vault.put_secret('a', cast($1 ¦as text)), x", true},
		{"select vault.put_secret('a', cast(¦'one'as text)), x", "select vault.put_secret('a', cast($1¦ as text)), x", true},
		{"select vault.put_secret('a', cast(/*ä*/text'one'as text)), ¦x", "select vault.put_secret('a', cast(/*ä*/$1 as text)), ¦x", true},
		{"select vault.put_secret('a', cast('one'as text)), ¦x", "select vault.put_secret('a', cast('hv1.LONGLONG'as text)), ¦x", false},
		{"select vault.read_secret('a')::text, ¦x", "select vault.read_secret('a'), ¦x", false},
		{"select cast(vault.read_secret('a') as text), ¦x", "select (vault.read_secret('a') ), ¦x", false},
		{"select cast¦(vault.read_secret('a') as text), x", "select ¦(vault.read_secret('a') ), x", true},
		{"select vault.put_secret('a', 's3cret')¦", "select vault.put_secret('a', 'hv1.LONGLONG')¦", false},
	} {
		sql, want := mark(t, c.client)
		sent, pos := mark(t, c.sent)
		p := mustPlan(t, sql, Options{Extended: c.extended})
		values, lengths := [][]byte{}, []int{}
		for range p.Calls {
			values = append(values, []byte("hv1.LONGLONG"))
			lengths = append(lengths, len("hv1.LONGLONG"))
		}
		got := string(p.SpliceQuery(nil, sql, values))
		if c.extended {
			raw, _ := p.SpliceParse(nil, sql, 0)
			got = string(raw)
		}
		if got != sent {
			t.Errorf("sent %s, want %s", got, sent)
			continue
		}
		const prefix = len("SET LOCAL x = on; ")
		s := Sent{Extended: c.extended, Lengths: lengths, Prefix: prefix}
		if got := p.MapPosition(sql, pos+prefix, s); got != want {
			t.Errorf("%s: position %d, want %d", c.sent, got, want)
		}
		if got := p.MapPosition(sql, prefix, s); got != 0 {
			t.Errorf("in the prefix: %d", got)
		}
		// A server that counts bytes.
		s.SingleByte = true
		byteAt, wantAt := strings.Index(c.sent, "¦")+1, strings.Index(c.client, "¦")+1
		if got := p.MapPosition(sql, byteAt+prefix, s); got != wantAt {
			t.Errorf("%s: byte %d, want %d", c.sent, got, wantAt)
		}
	}
}

// mark takes the mark out and returns its place in characters from 1.
func mark(t *testing.T, s string) (string, int) {
	t.Helper()
	before, after, ok := strings.Cut(s, "¦")
	if !ok {
		t.Fatalf("no mark in %s", s)
	}
	return before + after, utf8.RuneCountInString(before) + 1
}

func TestMapPositionOutOfRange(t *testing.T) {
	const sql = "select vault.put_secret('a', 's3cret')"
	p := mustPlan(t, sql, Options{})
	for _, pos := range []int{-1, 0, 1_000} {
		if got := p.MapPosition(sql, pos, Sent{}); got < 0 || got > len(sql)+1 {
			t.Errorf("%d became %d", pos, got)
		}
	}
}

func TestRefusalIsAnError(t *testing.T) {
	_, r := testAnalyzer().Analyze("select vault.put_secret('a')", Options{StdStrings: true, Settled: true})
	var err error = r
	var as *Refusal
	if !errors.As(err, &as) || !strings.Contains(err.Error(), "42883") {
		t.Errorf("got %v", err)
	}
}
