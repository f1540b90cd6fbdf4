// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tools

import (
	"regexp"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/report"
)

// psqlPlace is psql's word for where a line of a script stands.
var psqlPlace = regexp.MustCompile(`(?m)^psql:[^:]*:\d+: `)

// psql runs a script and returns what it printed, errors in their places.
func psql(t *testing.T, env []string, script string, args ...string) string {
	t.Helper()
	cmd := cluster.Command(t, env, cluster.Bin(t, "psql"), append([]string{"-X", "-q", "-A", "-t", "-f", "-"}, args...)...)
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v: %s", err, out)
	}
	return psqlPlace.ReplaceAllString(string(out), "")
}

// TestPsql goes through what psql does besides sending a statement: for each
// feature a script and what it prints.
func TestPsql(t *testing.T) {
	const pw = "psql canary ' ü"
	env := node(t)
	conn := shared.Connect(t, shared.DSN(0, shared.User))
	cluster.Exec(t, conn, "SELECT vault.put_secret('psql/pw', $1)", pw)
	dir := t.TempDir()
	row := report.Open(t, report.Tools, "psql", word(version(t, cluster.Bin(t, "psql"), "--version"), 2))
	for _, c := range []struct{ feature, script, want string }{
		{"`\\gset`", "SELECT vault.put_secret('psql/gset', 'psql canary') AS v \\gset\nSELECT vault.read_secret('psql/pw') AS pw \\gset\n\\echo :v :pw\nSELECT vault.put_secret('psql/gset', :'pw');\nSELECT vault.read_secret('psql/gset');\n", "1 " + pw + "\n2\n" + pw + "\n"},
		{"`\\gexec`", "SELECT format('SELECT vault.read_secret(%L)', 'psql/pw') FROM generate_series(1, 2) \\gexec\n", pw + "\n" + pw + "\n"},
		{"`\\gdesc`", "SELECT 1 AS n, vault.read_secret('psql/pw') AS pw \\gdesc\n", "n|integer\npw|text\n"},
		{"`\\crosstabview`", "\\t off\nSELECT g AS row, 'a' || c AS col, vault.read_secret('psql/pw') FROM generate_series(1, 2) g, generate_series(1, 2) c ORDER BY 1, 2 \\crosstabview\n", "row|a1|a2\n1|" + pw + "|" + pw + "\n2|" + pw + "|" + pw + "\n(2 rows)\n"},
		{"`\\gx`", "SELECT vault.read_secret('psql/pw') AS pw \\gx\n", "pw|" + pw + "\n"},
		{"`\\g` to a file and to a program", "SELECT vault.read_secret('psql/pw') \\g " + dir + "/g\n\\! cat " + dir + "/g\nSELECT vault.read_secret('psql/pw') \\g | tr a-z A-Z\n", pw + "\n" + strings.NewReplacer("psql canary", "PSQL CANARY").Replace(pw) + "\n"},
		{"`\\;`", "SELECT 1 \\; SELECT vault.read_secret('psql/pw') \\; SELECT 2;\n", "1\n" + pw + "\n2\n"},
		{
			"`\\copy` both ways", "CREATE TEMP TABLE c (n int, t text);\n\\copy c FROM PSTDIN\n1\tone\n2\ttwo\n\\.\n\\copy c TO " + dir + "/copied\n\\copy c FROM " + dir + "/copied\nSELECT count(*) FROM c;\n" +
				"\\copy (SELECT vault.read_secret('psql/pw')::varchar(4)) TO STDOUT\n\\copy c FROM STDIN\nx\n\\.\nSELECT count(*) FROM c;\n",
			"4\nNOTICE:  sealed text left in place\nHINT:  Select vault.read_secret() as a column of its own to have it opened.\nERROR:  a sealed secret cannot be converted to another type\nDETAIL:  The server holds ciphertext only; a node opens result columns of type vault.sealed.\nHINT:  Select vault.read_secret() as a column of its own.\nERROR:  invalid input syntax for type integer: \"x\"\nCONTEXT:  COPY c, line 1, column n: \"x\"\n4\n",
		},
		{"`\\lo_import`, `\\lo_export`", "\\lo_import " + write(t, "large", strings.Repeat("large", 50_000)) + "\n\\lo_export :LASTOID " + dir + "/large\n\\lo_unlink :LASTOID\n\\! wc -c < " + dir + "/large\n", "250000\n"},
		{"FETCH_COUNT", "\\set FETCH_COUNT 3\nSELECT g, vault.read_secret('psql/pw') FROM generate_series(1, 7) g;\n", "1|" + pw + "\n2|" + pw + "\n3|" + pw + "\n4|" + pw + "\n5|" + pw + "\n6|" + pw + "\n7|" + pw + "\n"},
		{
			"ON_ERROR_ROLLBACK", "\\set ON_ERROR_ROLLBACK on\nBEGIN;\nSELECT vault.put_secret('psql/rollback', 'psql canary');\nSELECT 1/0;\nSELECT vault.put_secret('bad name', 'psql canary');\nSELECT vault.put_secret('psql/rollback', 'psql canary');\nCOMMIT;\nSELECT vault.read_secret('psql/rollback', 2);\n",
			"1\nERROR:  division by zero\nERROR:  invalid name of a secret\nLINE 1: SELECT vault.put_secret('bad name', 'psql canary');\n                                ^\nDETAIL:  invalid secret name: only A-Z a-z 0-9 . _ / @ + - are allowed\nHINT:  The first argument is the secret's name, as in vault.put_secret(name, value).\n2\npsql canary\n",
		},
		{"AUTOCOMMIT off", "\\set AUTOCOMMIT off\nSELECT vault.put_secret('psql/off', 'psql canary');\nROLLBACK;\nSELECT vault.read_secret('psql/off', missing_ok => true) IS NULL;\n", "1\nt\n"},
		{"`\\c`", "\\c - - - -\nSELECT vault.read_secret('psql/pw');\n\\c template1\nSELECT current_database();\n\\c " + shared.Database + " " + shared.User + "\nSELECT vault.read_secret('psql/pw');\n", pw + "\ntemplate1\n" + pw + "\n"},
	} {
		row.Run(t, c.feature, func(t *testing.T) {
			if got := psql(t, env, c.script); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
	row.Run(t, "`\\d` of all of the vault", func(t *testing.T) {
		script := "\\d vault.*\n\\df+ vault.*\n\\dT+ vault.*\n\\dv vault.*\n\\dn+ vault\n\\dx+ hyperion_vault\n\\dp vault.*\n\\do vault.*\n\\dC\n"
		through, direct := psql(t, env, script), psql(t, shared.Libpq(t, shared.Nodes[0].Postgres, shared.User), script)
		if through != direct || !strings.Contains(through, "vault.secret_versions") || !strings.Contains(through, "put_secret") {
			t.Errorf("got\n%s\ndirect\n%s", through, direct)
		}
	})
	row.Run(t, "`\\watch`", func(t *testing.T) { psqlWatch(t, env, pw) })
	row.Run(t, "Ctrl-C in a query", func(t *testing.T) { psqlInterrupt(t, env, pw) })
	row.Run(t, "password prompt, `\\password`", psqlPassword)
	shared.NeverSent(t, "psql canary")
}

// psqlTerminal is psql as a user sees it.
func psqlTerminal(t *testing.T, env []string, args ...string) *terminal {
	t.Helper()
	quiet := []string{cluster.Bin(t, "psql"), "-X", "-q", "-A", "-t", "-n", "-P", "pager=off", "-v", "PROMPT1=ready>", "-v", "PROMPT2=more>"}
	return startTerminal(t, env, append(quiet, args...)...)
}

// psqlWatch reads a secret again and again until it is told to stop.
func psqlWatch(t *testing.T, env []string, pw string) {
	t.Helper()
	p := psqlTerminal(t, env)
	p.expect("ready>")
	p.send("SELECT vault.read_secret('psql/pw') \\watch 0.1\n")
	for range 3 {
		p.expect(pw)
	}
	p.send("\x03")
	p.expect("ready>")
	p.send("SELECT vault.read_secret('psql/pw');\n")
	p.expect(pw)
	p.send("\\q\n")
	p.end()
}

// psqlInterrupt is a user's Ctrl-C, after which the session goes on.
func psqlInterrupt(t *testing.T, env []string, pw string) {
	t.Helper()
	p := psqlTerminal(t, env)
	p.expect("ready>")
	p.send("SELECT pg_sleep(600);\n")
	super := shared.Connect(t, shared.SuperDSN(0))
	cluster.Eventually(t, "the sleep", func() bool {
		return cluster.Text(t, super, "SELECT count(*)::text FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600);' AND wait_event = 'PgSleep'") == "1"
	})
	p.send("\x03")
	p.expect("canceling statement due to user request")
	p.expect("ready>")
	p.send("SELECT vault.read_secret('psql/pw');\n")
	p.expect(pw)
	p.send("\\q\n")
	p.end()
}

// psqlPassword logs in by the prompt, changes the password and logs in again.
func psqlPassword(t *testing.T) {
	t.Helper()
	user := shared.AddUser(t, "psql_user", "psql/*", "read")
	env := append(shared.Libpq(t, shared.Nodes[0].Proxy, user), "PGPASSWORD=") // that it asks
	for n, password := range []string{"pw-" + user, "new psql password"} {
		p := psqlTerminal(t, env)
		p.expect("Password for user " + user + ":")
		p.send(password + "\n")
		p.expect("ready>")
		p.send("SELECT vault.read_secret('psql/pw');\n")
		p.expect("psql canary")
		if n == 0 {
			p.send("\\password\n")
			p.expect("Enter new password for user \"" + user + "\":")
			p.send("new psql password\n")
			p.expect("Enter it again:")
			p.send("new psql password\n")
			p.expect("ready>")
		}
		p.send("\\q\n")
		p.end()
	}
	shared.NeverSent(t, "new psql password")
}
