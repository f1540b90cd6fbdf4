// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestMentions(t *testing.T) {
	for _, c := range []struct {
		sql  string
		want bool
	}{
		{"", false},
		{"vaul", false},
		{"vault", true},
		{"VAULT", true},
		{"vAuLt", true},
		{"select vault.read_secret('a')", true},
		{"select \"VAULT\"", true},
		{"vavault", true},
		{"vvault", true},
		{"vauvault", true},
		{"va_secret", true},
		{"put_secret", true},
		{"PUT_SECRET", true},
		{"put_secre", false},
		{"put\x7fsecret", false},
		{"secret", false},
		{"__secret", true},
		{"_secr_secret", true},
		{"select 1", false},
		{`U&"\0076`, true},
		{`u&"`, true},
		{`U& "`, false},
		{`U&'x'`, false},
		{`&"`, false},
		{`a&b && u&"`, true},
		{strings.Repeat("x", 10_000) + "vault", true},
		{strings.Repeat("vaul", 10_000), false},
	} {
		if got := Mentions([]byte(c.sql)); got != c.want {
			t.Errorf("Mentions(%.40q) = %v, want %v", c.sql, got, c.want)
		}
	}
}

// TestMentionsEverywhere puts the words at every offset of a text that holds
// their letters.
func TestMentionsEverywhere(t *testing.T) {
	for _, word := range []string{"vault", "VAULT", "_secret", "_SECRET", `u&"`, `U&"`} {
		for i := range 64 {
			for _, filler := range []string{"x", "v", "_", "t", "secr", "au"} {
				front := strings.Repeat(filler, i)
				if !Mentions([]byte(front + word + "  ")) {
					t.Errorf("missed %q behind %q", word, front)
				}
			}
		}
	}
}

func TestMentionsPrepared(t *testing.T) {
	for _, c := range []struct {
		sql  string
		want bool
	}{
		{"execute p", true},
		{"EXECUTE p", true},
		{"explain analyze ExEcUtE p", true},
		{"x execute", true},
		{"Prepare p", true},
		{"prepar", false},
		{"exec", false},
		{"xecute", false},
		{"", false},
	} {
		if got := MentionsPrepared([]byte(c.sql)); got != c.want {
			t.Errorf("MentionsPrepared(%q) = %v, want %v", c.sql, got, c.want)
		}
	}
}

func TestMentionsDoesNotAllocate(t *testing.T) {
	sql := bytes.Repeat([]byte("select abalance from pgbench_accounts where aid = 1 & 2; "), 20)
	if n := testing.AllocsPerRun(100, func() {
		if Mentions(sql) || MentionsPrepared(sql) {
			t.Error("a mention")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzMentions(f *testing.F) {
	f.Add([]byte("select Vault.x"))
	f.Fuzz(func(t *testing.T, sql []byte) {
		low := make([]byte, len(sql))
		for i, c := range sql {
			low[i] = lower(c)
		}
		words := bytes.Contains(low, []byte("vault")) || bytes.Contains(low, []byte("_secret"))
		if got := Mentions(sql); got != (words || bytes.Contains(low, []byte(`u&"`))) {
			t.Errorf("Mentions(%q) = %v", sql, got)
		}
		if got := mentionsText(string(sql)); got != words {
			t.Errorf("mentionsText(%q) = %v", sql, got)
		}
		if got := MentionsPrepared(sql); got != (bytes.Contains(low, []byte("execute")) || bytes.Contains(low, []byte("prepare"))) {
			t.Errorf("MentionsPrepared(%q) = %v", sql, got)
		}
	})
}

func BenchmarkMentions(b *testing.B) {
	for name, sql := range map[string]string{
		"short": "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;",
		"long":  strings.Repeat("SELECT a.id, b.name FROM customers a JOIN orders b ON a.id = b.customer WHERE b.price > 100 ", 50),
	} {
		b.Run(name, func(b *testing.B) {
			raw := []byte(sql)
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				if Mentions(raw) {
					b.Fatal("a mention")
				}
			}
		})
	}
}

func TestPrepares(t *testing.T) {
	sixty := strings.Repeat("a", 60)
	for text, want := range map[string][]string{
		"prepare p as select 1":                                   {"p"},
		`PREPARE "P"(text) as select 1; prepare Q as select 2`:    {"P", "q"},
		"prepare/**/ -- x\n /* y */ p as":                         {"p"},
		"prepare /*/ */ p as":                                     {"p"},
		"'prepare --'; prepare p as":                              {"p"},
		"-- prepare q\nprepare p":                                 {"q", "p"},
		"prepare -- prepare q":                                    {"q"},
		"prepare /* never closed prepare q":                       {"q"},
		`prepare U&"\0070" as`:                                    {AnyName},
		`prepare "a""b" as`:                                       {AnyName},
		"prepare " + sixty + "bcdefg as":                          {sixty + "bcd"},
		`prepare "` + sixty + `aaé" as`:                           {sixty + "aa"},
		`prepare "` + sixty + `aé" as`:                            {sixty + "aé"},
		"xprepare p; prepared q; prepare; prepare (p); prepare 1": nil,
	} {
		if got := Prepares(text); !slices.Equal(got, want) {
			t.Errorf("%s\ngot  %q\nwant %q", text, got, want)
		}
	}
}

// Looked at byte for byte as often as there are words before it, this would take days.
func TestPreparesLooksOnce(t *testing.T) {
	for _, piece := range []string{"prepare/*", "prepare--", "prepare--\n", "prepare '", "prepare \"", `prepare U&"`} {
		if n := len(Prepares(strings.Repeat(piece, 1<<19) + strings.Repeat("a", 1<<22))); n > 1<<19 {
			t.Errorf("%q: %d names", piece, n)
		}
	}
}
