// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import "testing"

// Texts of one group have one fingerprint, whatever their constants are; two groups
// never have the same.
func TestFingerprint(t *testing.T) {
	a := NewAnalyzer(Config{CacheBytes: 1 << 20})
	seen := map[uint64]string{}
	for _, group := range [][]string{
		{
			"SELECT vault.put_secret('a/b', 'one')", "select vault . put_secret( 'a' , E'o\\ntwo three' ) -- a note",
			"SELECT vault.put_secret($$a$$, U&'\\0041')", "SELECT vault.put_secret('a'\n'b', 'c')",
		},
		{"SELECT vault.put_secret('a/b', 'one'), 1", "SELECT vault.put_secret('a/b', 'one'), 100.5"},
		{"SELECT vault.delete_secret('a')", "SELECT vault.delete_secret('bbbbb')"},
		{"SELECT vault.read_secret('a') LIMIT 5", "SELECT vault.read_secret('a/b/c') LIMIT 7"},
		{"PREPARE p AS SELECT vault.read_secret('a')"},
		{"SELECT vault.read_secret('a'); FETCH 5 FROM c", "SELECT vault.read_secret('b'); FETCH 777 FROM c"},
		{"SELECT vault.read_secret('a'); DO 'begin end'", "SELECT vault.read_secret('a'); DO $$begin null; end$$"},
		{"COMMENT ON TABLE x IS 'a'; SELECT vault.read_secret('a')", "COMMENT ON TABLE x IS 'longer'; SELECT vault.read_secret('a')"},
	} {
		var first uint64
		for i, sql := range group {
			plan, refusal := a.Analyze(sql, Options{StdStrings: true, Settled: true, Encoding: "UTF8"})
			if refusal != nil || plan == nil || plan.Fingerprint == 0 {
				t.Fatalf("%s: got %+v, %v", sql, plan, refusal)
			}
			if i == 0 {
				first = plan.Fingerprint
			}
			if plan.Fingerprint != first {
				t.Errorf("%s: got %x, want %x as for %s", sql, plan.Fingerprint, first, group[0])
			}
		}
		if other := seen[first]; other != "" {
			t.Errorf("%s and %s have the same", group[0], other)
		}
		seen[first] = group[0]
	}
}

// What a record of a refusal says comes of the text alone.
func TestRefusalSays(t *testing.T) {
	a := NewAnalyzer(Config{CacheBytes: 1 << 20, CheckName: func(string) error { return errParser }})
	for _, tt := range []struct {
		sql, function string
		parsed        bool
	}{
		{"SELECT vault.put_secret(lower('a'), 'b')", "put_secret", true},
		{"SELECT vault.put_secret('a', 'b')", "put_secret", true}, // by its name: the plan may be cached
		{"SELECT vault.put_secret('a', 'b')", "put_secret", true},
		{"SELECT vault.Rotate_Secret('a', 'b', put_secret", "rotate_secret", false},
		{"SELECT vault.put_secrets('a', 'b')", "", true},
		{"SELECT vault.\"put_secret\"('a', 'b'", "put_secret", false},
		{"INSERT INTO vault.secrets(secret) VALUES ('x')", "", true},
		{"UPDATE jobs SET status = 'x' WHERE vault.put_secret(lower('a'), 'b') > 0", "put_secret", true},
		{"SELECT tick, fail, allowed FROM replayed, vault.putsecret('a', 'b')", "", true},
		{"SELECT vault . /* x */ \"Grant_Access\"(), VAULT.tick(), vault.putsecret('a')", "grant_access", true},
		{"SELECT Status, VAULT.tick(), vault.putsecret('a')", "tick", true},
	} {
		_, r := a.Analyze(tt.sql, Options{StdStrings: true, Settled: true, Encoding: "UTF8"})
		if r == nil || r.Function != tt.function || (r.Fingerprint != 0) != tt.parsed {
			t.Errorf("%s: got %+v, want %q, a fingerprint: %v", tt.sql, r, tt.function, tt.parsed)
		}
	}
}

// Plans say what a record of theirs needs.
func TestPlanSays(t *testing.T) {
	a := NewAnalyzer(Config{})
	for _, tt := range []struct {
		sql, function string
		writes        bool
	}{
		{"SELECT vault.put_secret('a', 'b')", "put_secret", true},
		{"SELECT vault.read_secret('a')", "read_secret", false},
		{"SELECT read_secret('a')", "read_secret", false},
		{"SELECT vault.grant_access('app', 'a')", "grant_access", true},
		{"SELECT vault.verify_secret('a', 'b')", "verify_secret", false},
		{"SELECT * FROM vault.list_secrets()", "list_secrets", false},
		{"SELECT vault.read_secret('a') FROM vault.delete_secret('b')", "read_secret", true},
	} {
		p, r := a.Analyze(tt.sql, Options{StdStrings: true, Settled: true, Encoding: "UTF8"})
		if r != nil || p == nil || p.Function != tt.function || p.Writes != tt.writes {
			t.Errorf("%s: got %+v, %v, want %q, writes: %v", tt.sql, p, r, tt.function, tt.writes)
		}
	}
}
