// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// boundsCases are texts that end a process in which pg_query reads them, or
// make it work too long; name → text.
func boundsCases() map[string]string {
	put := "select vault.put_secret('a', 's3cret')"
	rep := strings.Repeat
	return map[string]string{
		"terms":                 put + rep(" + 1", 25_000),
		"unions":                put + rep(" union select 1", 100_000),
		"joins":                 put + " from a" + rep(" join a on true", 20_000),
		"casts":                 put + rep("::int", 25_000),
		"is":                    put + rep(" is null", 25_000),
		"collate":               put + rep(` collate "C"`, 25_000),
		"time zones":            put + rep(" at time zone 'x'", 15_000),
		"operator()":            put + rep(" operator(pg_catalog.+) 1", 9_000),
		"parens":                "select " + rep("(", 100_000) + put[7:] + rep(")", 100_000),
		"calls":                 "select " + rep("f(", 20_000) + put[7:] + rep(")", 20_000),
		"brackets":              put + ", array" + rep("[", 50_000) + rep("]", 50_000),
		"cases":                 "select " + rep("case when (a).end then ", 5_000) + put[7:] + rep(" end", 5_000),
		"ranges":                put + ", 1" + rep(" between 1 and 2 is null", 14_000),
		"ranges of ranges":      put + ", 1" + rep(" between symmetric 1 and 2 notnull", 14_000),
		"ranges and nots":       put + ", 1" + rep(" between 1 and not 1", 14_000),
		"ranges in a row":       put + ", 1" + rep(" between 1 and 1 between 1 and 1 isnull", 7_000),
		"nots":                  put + ", " + rep("not ", 40_000) + "true",
		"commas between unions": put + rep(", 1 union select 1", 12_000),
		"tokens":                put + rep(", 1", 100_000),
		"statements":            put + rep(";select", 100_000),
		"long":                  put + ", '" + rep("x", maxText) + "'",
		"in a body":             "do $$ begin perform vault.put_secret('a', 's3cret" + rep(" + 1", 200_000) + "'); end $$" + rep(" + 1", 50_000),
	}
}

// TestBounds analyses them in a process of its own: each must be refused, and
// the process live to say so.
func TestBounds(t *testing.T) {
	if os.Getenv("HYPERION_VAULT_BOUNDS") != "" {
		for name, sql := range boundsCases() {
			for _, extended := range []bool{false, true} {
				p, r := testAnalyzer().Analyze(sql, Options{StdStrings: true, Settled: true, Extended: extended})
				if p != nil || r == nil {
					t.Errorf("%s: not refused", name)
				} else if strings.Contains(fmt.Sprintf("%+v", *r), "s3cret") {
					t.Errorf("%s: %+v", name, *r)
				}
			}
		}
		fmt.Println("alive")
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestBounds$", "-test.v")
	cmd.Env = append(os.Environ(), "HYPERION_VAULT_BOUNDS=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "alive") {
		if len(out) > 4_000 {
			out = out[:4_000]
		}
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestBoundsPass: the same shapes without a value pass, parsed or not.
func TestBoundsPass(t *testing.T) {
	rep := strings.Repeat
	for name, sql := range map[string]string{
		"read": "select vault.read_secret('a')" + rep(" + 1", 25_000),
		"word": "select 'vault'" + rep(" + 1", 25_000),
		"rows": "insert into app.vault values ('x')" + rep(", ('y')", 50_000),
		"long": "select 'vault', '" + rep("x", maxText) + "'",
	} {
		_, r := testAnalyzer().Analyze(sql, Options{StdStrings: true, Settled: true})
		if r != nil {
			t.Errorf("%s: %v", name, r)
		}
	}
}

// TestOverlong: of what is too long to be taken apart it is still known what it may
// execute, call and write, in front of all the rest and behind it.
func TestOverlong(t *testing.T) {
	const executes, table, refused, passes = "executes p", "table", "refused", "passes"
	tokens := "select 1" + strings.Repeat(", 1", maxTokens)
	for _, c := range []struct{ sql, want string }{
		{"execute p('n', 's3cret')", executes},
		{"do $$ begin execute 'execute p(''n'', ''s3cret'')'; end $$", executes},
		{"update vault.secrets s set secret = v.s from (values ('n', 's3cret')) v (n, s) where s.name = v.n", table},
		{`update only ( /* x */ "vault" . secrets) set secret = 's3cret'`, table},
		{`insert into U&"v\0061ult".secrets values ('s3cret')`, table},
		{"insert into vault.secrets (secret) values ('s3cret')", table},
		{"select vault.delete_secret('x')", refused},
		{"select vault.put_secret('n', 's3cret')", refused},
		{"select vault.read_secret('x')", passes},
		{"update app.vault set x = 1; insert into vaults.t values (1)", passes},
	} {
		checkOverlong(t, c.sql+"; "+tokens, c.want)
		checkOverlong(t, tokens+"; "+c.sql, c.want)
	}
	bytes := "select '" + strings.Repeat("x", maxText) + "'; "
	checkOverlong(t, bytes+"execute p('n', 's3cret')", executes)
	checkOverlong(t, bytes+"update vault.secrets set secret = 's3cret'", table)
	checkOverlong(t, bytes+"select vault.delete_secret('x')", refused)
}

func checkOverlong(t *testing.T, sql, want string) {
	t.Helper()
	p, r := testAnalyzer().Analyze(sql, Options{StdStrings: true, Settled: true})
	got := "passes"
	switch {
	case r != nil && r.Table:
		got = "table"
	case r != nil:
		got = "refused"
	case p != nil && (slices.Contains(p.Executes, "p") || slices.Contains(p.Guessed, "p")):
		got = "executes p"
	}
	if got != want {
		t.Errorf("%s, want %s: %.100s…%s", got, want, sql, sql[len(sql)-100:])
	}
}

// TestLongNames: a name that none of ours can have is not copied for each that it could.
func TestLongNames(t *testing.T) {
	sql := `select "a""` + strings.Repeat("b", 1<<20) + `"(1), 'vault'`
	var lx lexed
	lex(sql, true, &lx)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	worthParsing(sql, lx.toks)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 3<<20 {
		t.Errorf("%d bytes for a name of 1 MiB", n)
	}
}

// TestDeepLooksNear: what is looked for behind a name is looked for nearby: all that is
// done with a text is linear in it.
func TestDeepLooksNear(t *testing.T) {
	for _, piece := range []string{
		`put_secret--\n`, `put_secret--\n\n\n\n\n\n\n\n `, "put_secret/*", `vault.u&"`, `u&"\+000076".`, `u&"!" uescape '`, "into vault.secrets (id, ",
		"into vault.secrets (", "update /*", "update ", "vault.", "into vault . ", "only (((", "status ", "vault . status_",
	} {
		sql := strings.Repeat(piece, 1<<20/len(piece))
		begun := time.Now()
		loosePatterns(sql)
		looseWrites(sql)
		firstNamed(sql)
		namesIn("update", sql, &lexed{})
		if took := time.Since(begun); took > 20*time.Second {
			t.Errorf("%q: %s for 1 MiB", piece, took)
		}
	}
}

// TestDepth: what is let through is far from the depth that hurts, and what
// people write is let through.
func TestDepth(t *testing.T) {
	rep := strings.Repeat
	for _, c := range []struct {
		name, sql string
		deep      bool
	}{
		{"terms below", "select 1" + rep("+1", maxDepth-1), false},
		{"terms above", "select 1" + rep("+1", maxDepth+1), true},
		{"terms in a list", "select 1" + rep("+1, 1", 5_000), false},
		{"conditions", "select 1 where a=1" + rep(" or a=1 and b=2", 5_000), false},
		{"ranges", "select 1 where a between 1 and 2" + rep(" and b between 1 and 2 or c not between 2 and 3", 3_000), false},
		{"rows", "insert into t values (1)" + rep(", (-1, 'x'::text)", 5_000), false},
		{"WHENs", "select case" + rep(" when a=1 then 2", 5_000) + " end", false},
		{"statements", rep("select 1 + 1 union select 2;", 1_000), false},
		{"unions behind commas", "select 1" + rep(", 1 union select 1", maxDepth+1), true},
		{"parentheses", "select " + rep("(", maxDepth+1), true},
		{"parentheses and terms", rep("(1+", maxDepth/2+1), true},
		{"closed parentheses", "select " + rep("(1+1),", 5_000) + "1", false},
		{"CASE in a field's name", rep("case when (a).end then ", maxDepth), true},
	} {
		var lx lexed
		lex(c.sql, true, &lx)
		if got := tooDeep(c.sql, lx.toks); got != c.deep {
			t.Errorf("%s: too deep %v, want %v", c.name, got, c.deep)
		}
		if c.deep || lx.bad != "" {
			continue
		}
		if _, err := pg.Parse(c.sql); err != nil {
			t.Errorf("%s: let through, but: %v", c.name, err)
		}
	}
}

// TestLooseReach: a second argument is not looked for up to the end of a text, for
// each call in it anew. One that is too far away counts as a value.
func TestLooseReach(t *testing.T) {
	for n, want := range map[int]bool{looseReach / 2: false, 2 * looseReach: true} {
		text := "vault.update_secret(" + strings.Repeat("x", n) + ", interval '1 day')"
		if p := loosePatterns(text); p.update != want {
			t.Errorf("%d bytes in front: %v, want %v", n, p.update, want)
		}
	}
}
