// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// corpusTexts are the texts of all corpus files, as seeds.
func corpusTexts(f testing.TB) []string {
	f.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	var texts []string
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range strings.Split("\n"+string(raw), "\n--- sql\n")[1:] {
			text, _, _ := strings.Cut(part, "\n--- ")
			texts = append(texts, text)
		}
	}
	return texts
}

// FuzzLexer compares our lexer with pg_query's scanner: on the blanked text
// they see the same tokens, and where pg_query can read the original, there
// too.
func FuzzLexer(f *testing.F) {
	for _, s := range corpusTexts(f) {
		f.Add(s, true)
	}
	f.Add(`'a\'b'||E'\'' $a$ $$ $a$ 1.5e-3 .5 1..2 a.b <-- c`+"\n>=+-@- /*/**/*/ x:=y::z U&\"a\" uescape '!'", false)
	f.Fuzz(func(t *testing.T, sql string, std bool) {
		var lx lexed
		lex(sql, std, &lx)
		checkTokens(t, sql, &lx)
		if lx.bad != "" {
			return
		}
		blanked := string(blank(nil, sql, &lx))
		if len(blanked) != len(sql) {
			t.Fatalf("blanking changed the length: %d, was %d", len(blanked), len(sql))
		}
		var again lexed
		lex(blanked, std, &again)
		if len(again.toks) != len(lx.toks) || again.bad != "" {
			t.Fatalf("blanked text lexes otherwise: %q", blanked)
		}
		for i, tok := range lx.toks {
			if again.toks[i].start != tok.start || again.toks[i].end != tok.end || again.toks[i].kind != tok.kind {
				t.Fatalf("token %d of %q: %+v, blanked %+v", i, sql, tok, again.toks[i])
			}
		}
		if !utf8.ValidString(sql) || len(lx.toks) > 2_000 || strings.Contains(blanked, "\v") {
			return // \v is an error to pg_query
		}
		if scan, err := pg.Scan(blanked); err == nil {
			if at := compareTokens(lx.toks, scan.Tokens); at >= 0 {
				t.Fatalf("pg_query sees other tokens at %d of %q", at, blanked)
			}
		}
		// On the original pg_query takes any comment as the end of a literal.
		if scan, err := pg.Scan(sql); err == nil && std && len(lx.comments) == 0 && !strings.Contains(sql, "\v") {
			if at := compareTokens(lx.toks, scan.Tokens); at >= 0 {
				t.Fatalf("pg_query sees other tokens at %d of the original %q", at, sql)
			}
		}
	})
}

// checkTokens checks what holds for every lexed text: tokens and comments are
// in order, do not overlap, and between tokens there is nothing but space.
func checkTokens(t *testing.T, sql string, lx *lexed) {
	t.Helper()
	end := 0
	for i, tok := range lx.toks {
		if tok.start < end || tok.body <= tok.start || tok.end < tok.body || tok.end > len(sql) {
			t.Fatalf("token %d of %q is %+v behind %d", i, sql, tok, end)
		}
		end = tok.end
		if tok.literal() && lx.bad == "" {
			l := literal{start: tok.start, end: tok.body, kind: tok.kind, escape: tok.escape, std: lx.std}
			out, bad := l.decode(nil, sql)
			if bad == nil && len(out) > tok.body-tok.start {
				t.Fatalf("%q decodes to more than itself: %q", tok.text(sql), out)
			}
			if (l.check(sql) == nil) != (bad == nil) {
				t.Fatalf("check and decode differ on %q", tok.text(sql))
			}
		}
	}
}

// FuzzAnalyze plants a canary in every literal and looks for it everywhere a
// value must not be.
func FuzzAnalyze(f *testing.F) {
	for _, s := range corpusTexts(f) {
		f.Add(s, uint8(0b0110))
		f.Add(s, uint8(0b0111))
	}
	f.Fuzz(func(t *testing.T, sql string, bits uint8) {
		if len(sql) > 10_000 {
			return
		}
		o := Options{Extended: bits&1 != 0, StdStrings: bits&2 != 0, Settled: bits&4 != 0, Encoding: "UTF8"}
		if bits&8 != 0 {
			o.Encoding = "LATIN1"
		}
		sql = strings.ReplaceAll(sql, "s3cret", canary)
		a := NewAnalyzer(Config{CacheBytes: 1 << 16})
		plan, refusal := a.Analyze(sql, o)
		again, refusal2 := a.Analyze(sql, o)
		if fmt.Sprintf("%+v%+v", plan, refusal) != fmt.Sprintf("%+v%+v", again, refusal2) {
			t.Fatalf("%q: the cache answers otherwise", sql)
		}
		if r := a.Route(sql, o); r != a.Route(sql, o) {
			t.Fatalf("%q: the cache routes otherwise", sql)
		}
		for _, gen := range []map[string]*Plan{a.plans.young, a.plans.old} {
			for key, p := range gen {
				noCanary(t, sql, key+fmt.Sprintf("%+v", p))
			}
		}
		switch {
		case refusal != nil && plan != nil:
			t.Fatalf("%q: plan and refusal", sql)
		case refusal != nil:
			if !strings.Contains(refusal.Message, canary) || !namesFunction(sql) {
				noCanary(t, sql, fmt.Sprintf("%+v", *refusal))
			}
			if len(refusal.SQLState) != 5 || refusal.Message == "" || refusal.Position < 0 {
				t.Fatalf("%q: %+v", sql, refusal)
			}
		case plan != nil:
			checkPlan(t, sql, o, plan)
		}
	})
}

// canary begins with no digit of any base, so that no number takes a part of it.
const canary = "ZCANARYvalue"

// noCanary fails if the canary of a literal is in s; as an unquoted word it may
// be in a key or a message, so those texts do not count.
func noCanary(t *testing.T, sql, s string) {
	t.Helper()
	if strings.Contains(s, canary) && !namesFunction(sql) {
		t.Fatalf("%q: the canary got out: %q", sql, s)
	}
}

// namesFunction reports whether the canary stands as an unquoted word.
func namesFunction(sql string) bool {
	for _, std := range []bool{true, false} {
		var lx lexed
		lex(sql, std, &lx)
		for _, tok := range lx.toks {
			if !tok.literal() && strings.Contains(tok.text(sql), canary) {
				return true
			}
		}
		if lx.bad != "" && strings.Contains(sql[lx.badAt:], canary) {
			return true
		}
	}
	return false
}

// checkPlan splices fake values and looks at what came out: the value's tokens
// are replaced and every other token is what it was.
func checkPlan(t *testing.T, sql string, o Options, p *Plan) {
	t.Helper()
	if len(p.ops) == 0 {
		return
	}
	var sent []byte
	values := make([][]byte, len(p.Calls))
	lengths := make([]int, len(p.Calls))
	for i := range p.Calls {
		values[i] = fmt.Appendf(nil, "hv1.%d-_x", i)
		lengths[i] = len(values[i])
		if p.Calls[i].Value.Mode == Const {
			if _, err := p.DecodeValue(nil, sql, i); err != nil {
				t.Fatalf("%q: value %d: %v", sql, i, err)
			}
		}
	}
	s := Sent{Extended: o.Extended, OwnBase: p.NumParams, Lengths: lengths}
	if o.Extended {
		var appended []int
		sent, appended = p.SpliceParse(nil, sql, p.NumParams)
		if len(appended)+len(p.Edits) != len(p.ops) {
			t.Fatalf("%q: appended %v", sql, appended)
		}
	} else {
		sent = p.SpliceQuery(nil, sql, values)
	}
	checkSpliced(t, sql, string(sent), o, p)
	last := 0
	for pos := 1; pos <= utf8.RuneCount(sent)+1; pos++ {
		at := p.MapPosition(sql, pos, s)
		if at < last || at < 1 || at > utf8.RuneCountInString(sql)+1 {
			t.Fatalf("%q: position %d of %q became %d behind %d", sql, pos, sent, at, last)
		}
		last = at
	}
}

// checkSpliced compares the tokens of what is sent with those of the text in
// which the edits are made by hand.
func checkSpliced(t *testing.T, sql, sent string, o Options, p *Plan) {
	t.Helper()
	var before, after lexed
	lex(sql, o.StdStrings, &before)
	lex(sent, o.StdStrings, &after)
	if after.bad != "" {
		t.Fatalf("%q became %q: %s", sql, sent, after.bad)
	}
	var want, got []string
	added, ops := 0, p.ops
	edits := func(until int) {
		for ; len(ops) > 0 && ops[0].start < until; ops = ops[1:] {
			if ops[0].call < 0 {
				continue
			}
			if p.Calls[ops[0].call].Value.Insert != "" {
				want = append(want, ",", "value", "=>")
			}
			added++
			if o.Extended {
				want = append(want, fmt.Sprintf("$%d", p.NumParams+added))
			} else {
				want = append(want, fmt.Sprintf("'hv1.%d-_x'", ops[0].call))
			}
		}
	}
	for _, tok := range before.toks {
		edits(tok.start + 1)
		if !edited(p, tok) {
			want = append(want, tok.text(sql))
		}
	}
	edits(len(sql) + 1)
	for _, tok := range after.toks {
		got = append(got, tok.text(sent))
	}
	if strings.Join(got, "\x00") != strings.Join(want, "\x00") {
		t.Fatalf("%q became %q:\n%q\n%q", sql, sent, want, got)
	}
}

func edited(p *Plan, tok token) bool {
	for _, o := range p.ops {
		if tok.start >= o.start && tok.end <= o.end {
			return true
		}
	}
	return false
}
