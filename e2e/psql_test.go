// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// throughNode is the environment that connects libpq's programs to the
// first node as the ordinary user.
func throughNode(t *testing.T, c *cluster.Cluster) []string {
	t.Helper()
	host, port, err := net.SplitHostPort(c.Nodes[0].Proxy)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"PGHOST=" + host, "PGPORT=" + port, "PGUSER=" + c.User, "PGPASSWORD=" + c.Password, "PGDATABASE=" + c.Database}
}

// psqlNoise is what psql says about where an error was: it is not what we test.
var psqlNoise = regexp.MustCompile(`(?m)^psql:[^:]*:\d+: |^LINE \d+: .*\n *\^\n`)

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
	neverSent(t, "psql-canary", "place-canary")
}

// psql runs a script and returns what it printed, errors in their places.
func psql(t *testing.T, script string) string {
	t.Helper()
	bindir, err := devcluster.FindServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(bindir, "psql"), "-X", "-q", "-A", "-f", "-")
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(script), &out, &out // one stream
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8"}, throughNode(t, shared)...)
	if err := cmd.Run(); err != nil {
		t.Fatalf("psql: %v: %s", err, out.String())
	}
	return psqlNoise.ReplaceAllString(out.String(), "")
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

// TestPgbench runs the server's own benchmark through the node, with all three
// of its protocols and with scripts of secrets.
func TestPgbench(t *testing.T) {
	c := cluster.Start(t, cluster.Spec{}) // of its own: the shared server writes down every plan
	env := throughNode(t, c)
	mustRun(t, env, "pgbench", "-i", "-s", "1", "-q")
	script := func(text string) string {
		path := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	reading := script("\\set n random(1, 4)\nSELECT vault.read_secret('bench/' || :n) AS pw;\nSELECT 1;\n")
	putting := script("BEGIN;\nSELECT vault.put_secret('bench/1', 'bench value') AS v \\gset\nSELECT vault.read_secret('bench/1', :v);\nEND;\n")
	pipeline := script("\\startpipeline\nSELECT 1;\nSELECT vault.read_secret('bench/2');\nSELECT vault.put_secret('bench/2', 'bench value');\nSELECT 2;\n\\endpipeline\n")
	conn := c.Connect(t, c.DSN(0, c.User))
	for n := 1; n <= 4; n++ {
		cluster.Exec(t, conn, "SELECT vault.put_secret($1, 'bench value')", fmt.Sprintf("bench/%d", n))
	}
	processed := regexp.MustCompile(`number of transactions actually processed: (\d+)/(\d+)`)
	run := func(want int, args ...string) {
		t.Helper()
		out := mustRun(t, env, "pgbench", append([]string{"-n", "-c", "2"}, args...)...)
		m := processed.FindStringSubmatch(out)
		if m == nil || m[1] != strconv.Itoa(want) {
			t.Errorf("pgbench %s: got %s, want %d transactions", strings.Join(args, " "), out, want)
		}
	}
	for _, mode := range []string{"simple", "extended", "prepared"} {
		run(40, "-M", mode, "-t", "20")
		run(100, "-M", mode, "-S", "-t", "50")
		run(40, "-M", mode, "-f", reading, "-t", "20")
		run(20, "-M", mode, "-f", putting, "-t", "10")
	}
	run(20, "-M", "extended", "-f", pipeline, "-t", "10")
	run(20, "-M", "prepared", "-f", pipeline, "-t", "10")
	run(10, "-C", "-S", "-t", "5")
	if got := cluster.Text(t, conn, "SELECT current_version::text FROM vault.list_secrets('bench/1')"); got != "61" {
		t.Errorf("version: got %s, want 61", got)
	}
}
