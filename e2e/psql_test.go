// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// psqlNoise is what psql says about where an error was, and the hundredths of a row
// in a plan of PostgreSQL 18: it is not what we test.
var psqlNoise = regexp.MustCompile(`(?m)^psql:[^:]*:\d+: |^LINE \d+: .*\n *\^\n|\.00`)

// TestPsql runs the scripts of testdata/psql: a script, "----", and what psql
// prints.
func TestPsql(t *testing.T) {
	files, err := filepath.Glob("testdata/psql/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("scripts: got %d, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			script, want, found := strings.Cut(readFile(t, file), "----\n")
			if !found {
				t.Fatal("no line ----")
			}
			if got := psql(t, script); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
	shared.NeverSent(t, "psql-canary", "place-canary")
}

// psql runs a script and returns what it printed, errors in their places.
func psql(t *testing.T, script string) string {
	t.Helper()
	cmd := cluster.Command(t, shared.Libpq(t, shared.Nodes[0].Proxy, shared.User), cluster.Bin(t, "psql"), "-X", "-q", "-A", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v: %s", err, out)
	}
	return psqlNoise.ReplaceAllString(string(out), "")
}

// TestManySecrets puts 1,000 secrets in one pipeline, and opens them in one
// statement.
func TestManySecrets(t *testing.T) {
	conn := client(t)
	const n = 1000
	var puts pgx.Batch
	for i := range n {
		puts.Queue("SELECT vault.put_secret($1, $2)", fmt.Sprintf("many/%d", i), fmt.Sprintf("value of %d", i))
	}
	if err := conn.SendBatch(t.Context(), &puts).Close(); err != nil {
		t.Fatal(err)
	}
	cluster.Exec(t, conn, "CREATE TABLE many AS SELECT n, 'many/' || n AS name FROM generate_series(0, 999) n")
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol} {
		rows, err := conn.Query(t.Context(), "SELECT m.n, vault.read_secret(m.name) AS pw, o.n FROM many m JOIN many o ON o.n = m.n ORDER BY m.n", mode)
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for rows.Next() {
			var i, o int
			var pw string
			if err := rows.Scan(&i, &pw, &o); err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("value of %d", count); i != count || pw != want {
				t.Fatalf("row %d: got %d %q, want %q", count, i, pw, want)
			}
			count++
		}
		if err := rows.Err(); err != nil || count != n {
			t.Fatalf("rows: got %d, %v, want %d", count, err, n)
		}
	}
}
