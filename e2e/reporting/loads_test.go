// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package reporting

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/report"
)

// A load is a program that only reads, or some runs of one.
type load struct {
	name string // the row of the table
	runs [][]string
	env  []string
	// standby and primary match the texts that may run there; nil: none.
	standby, primary *regexp.Regexp
	verdict          string // of the table
}

// python is the system's own: its drivers are packages of the system.
const python = "/usr/bin/python3"

var (
	anything = regexp.MustCompile("")
	// setup is what pg_dump does before its block.
	setup = regexp.MustCompile(`(?i)^(SET |SELECT (pg_catalog\.)?set_config\(|SELECT pg_catalog\.pg_is_in_recovery\()`)
	// types is asyncpg's question before SQLAlchemy's first block.
	types = regexp.MustCompile(`^SELECT$`)
)

// Verdicts of the table.
const (
	stays  = "all at the standby"
	leaves = "all at the primary"
)

// readOnly has each of a session's blocks be read-only, by libpq's environment.
var readOnly = []string{"PGOPTIONS=-c default_transaction_read_only=on"}

func loads(t *testing.T) []load {
	t.Helper()
	pgbench := func(args ...string) []string {
		return append([]string{cluster.Bin(t, "pgbench"), "-c", "2", "-t", "50"}, args...)
	}
	script := func(text string) string {
		path := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	random := script("SELECT random(), gen_random_uuid(), clock_timestamp();\n")
	function := script("\\set aid random(1, 1000)\nSELECT reporting.total(:aid);\n")
	noting := script("\\set aid random(1, 1000)\nSELECT reporting.noted(:aid);\n")
	dump := func() []string {
		return []string{cluster.Bin(t, "pg_dump"), "-j", "2", "-F", "directory", "-f", filepath.Join(t.TempDir(), "dump"), "-n", "public"}
	}
	psql := []string{cluster.Bin(t, "psql"), "-X", "-v", "ON_ERROR_STOP=1"}
	for _, command := range []string{`\d+ pgbench_accounts`, `\d+`, `\dt+`, `\df+ reporting.*`, `\l+`, `\du+`, `\dn+`, `\dx+`, `\dp`} {
		psql = append(psql, "-c", command)
	}
	run := func(command ...string) [][]string { return [][]string{command} }
	return []load{
		{name: "`pgbench -S -n`, all its modes", runs: [][]string{pgbench("-S", "-n"), pgbench("-S", "-n", "-M", "extended"), pgbench("-S", "-n", "-M", "prepared")}, standby: anything, verdict: stays},
		{name: "`pgbench -S -n -C`", runs: run(pgbench("-S", "-n", "-C", "-t", "5")...), standby: anything, verdict: stays},
		{name: "`pgbench -S`", runs: run(pgbench("-S")...), standby: anything, primary: regexp.MustCompile("^(vacuum|truncate) "), verdict: "its VACUUM and TRUNCATE at the primary, all else at the standby"},
		{name: "`random()`, `gen_random_uuid()`, `clock_timestamp()`", runs: [][]string{pgbench("-n", "-f", random), pgbench("-n", "-f", random, "-M", "prepared")}, standby: anything, verdict: stays},
		{name: "PL/pgSQL function that reads, with EXCEPTION", runs: [][]string{pgbench("-n", "-f", function), pgbench("-n", "-f", function, "-M", "prepared")}, standby: anything, verdict: stays},
		{name: "PL/pgSQL function that writes", runs: [][]string{pgbench("-n", "-f", noting), pgbench("-n", "-f", noting, "-M", "prepared")}, primary: anything, verdict: leaves + ": the standby refuses the first, which runs again"},
		{name: "`pg_dump -j 2`", runs: run(dump()...), standby: setup, primary: anything, verdict: "the dump at the primary, for it begins by a plain BEGIN"},
		{name: "`pg_dump -j 2`, `PGOPTIONS='-c default_transaction_read_only=on'`", runs: run(dump()...), env: readOnly, standby: anything, verdict: stays},
		{name: "psql's `\\d+`, `\\dt+`, `\\df+`, `\\l+`, `\\du+`, `\\dn+`, `\\dx+`, `\\dp`", runs: run(psql...), standby: anything, verdict: stays},
		{name: "asyncpg's pool and its reset", runs: run(python, "pool.py", "alone"), standby: anything, verdict: stays},
		{name: "asyncpg, `transaction(readonly=True)`", runs: run(python, "pool.py", "readonly"), standby: anything, verdict: stays},
		{name: "asyncpg, `transaction()`", runs: run(python, "pool.py", "block"), primary: anything, verdict: leaves},
		{name: "SQLAlchemy on psycopg 2", runs: run(python, "alchemy.py", "psycopg2", "default"), primary: anything, verdict: leaves},
		{name: "SQLAlchemy on asyncpg", runs: run(python, "alchemy.py", "asyncpg", "default"), standby: types, primary: anything, verdict: leaves},
		{name: "SQLAlchemy on psycopg 2, `postgresql_readonly`", runs: run(python, "alchemy.py", "psycopg2", "readonly"), standby: anything, primary: anything, verdict: "at the primary for a second, then at the standby: what it asks of a new server is a plain block"},
		{name: "SQLAlchemy on asyncpg, `postgresql_readonly`", runs: run(python, "alchemy.py", "asyncpg", "readonly"), standby: anything, primary: anything, verdict: "at the primary for a second, then at the standby: what it asks of a new server is a plain block"},
		{name: "SQLAlchemy on psycopg 2, `AUTOCOMMIT`", runs: run(python, "alchemy.py", "psycopg2", "autocommit"), standby: anything, verdict: stays},
		{name: "SQLAlchemy on asyncpg, `AUTOCOMMIT`", runs: run(python, "alchemy.py", "asyncpg", "autocommit"), standby: anything, verdict: stays},
		{name: "SQLAlchemy on psycopg 2, `default_transaction_read_only`", runs: run(python, "alchemy.py", "psycopg2", "setting"), standby: anything, verdict: stays},
		{name: "Django, in the server's `TIME_ZONE` and in another", runs: [][]string{{python, "orm.py", "alone"}, {python, "orm.py", "zone"}}, standby: anything, verdict: stays},
		{name: "Django, `atomic()`", runs: run(python, "orm.py", "atomic"), primary: anything, verdict: leaves},
		{name: "Django, `atomic()`, `default_transaction_read_only`", runs: run(python, "orm.py", "setting"), standby: anything, verdict: stays},
	}
}

// TestReporting holds each load to where it runs, and makes the table.
func TestReporting(t *testing.T) {
	output(t, 0, "tables", nil, cluster.Bin(t, "pgbench"), "-i", "-q", "-s", "1")
	super := shared.Connect(t, shared.SuperDSN(0))
	for _, sql := range strings.Split(schema, "\n\n") {
		cluster.Exec(t, super, sql)
	}
	shared.WaitReplayed(t, 1)
	for i, l := range loads(t) {
		t.Run(strings.NewReplacer("`", "", "/", "").Replace(l.name), func(t *testing.T) { l.test(t, fmt.Sprintf("load %d", i)) })
	}
}

const schema = `CREATE SCHEMA reporting

GRANT USAGE ON SCHEMA reporting TO PUBLIC

CREATE FUNCTION reporting.total(low int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	total bigint := 0;
	account record;
BEGIN
	FOR account IN SELECT abalance FROM public.pgbench_accounts WHERE aid BETWEEN low AND low + 10 LOOP
		total := total + account.abalance;
	END LOOP;
	BEGIN
		PERFORM 1 / (total - total);
	EXCEPTION WHEN division_by_zero THEN
		total := total + 1;
	END;
	RETURN total;
END $$

CREATE FUNCTION reporting.noted(low int) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.pgbench_history (aid) VALUES (low);
	RETURN low;
END $$`

func (l load) test(t *testing.T, session string) {
	t.Helper()
	last := ""
	c := counted(t, session, func() {
		for _, command := range l.runs {
			lines := strings.Split(strings.TrimSpace(output(t, 1, session, l.env, command...)), "\n")
			last = lines[len(lines)-1]
		}
	})
	if program := l.runs[0][0]; program != python {
		last = strings.Fields(cluster.Output(t, nil, program, "--version"))[2]
	}
	for _, at := range []struct {
		server string
		may    *regexp.Regexp
		ran    []string
	}{{"standby", l.standby, c.standby}, {"primary", l.primary, c.primary}} {
		for _, text := range at.ran {
			if at.may == nil || !at.may.MatchString(text) {
				t.Errorf("at the %s: %s", at.server, text)
			}
		}
		if at.may != nil && len(at.ran) == 0 {
			t.Errorf("nothing ran at the %s", at.server)
		}
	}
	if (l.primary == nil) != (c.moves == 0) {
		t.Errorf("%d moves", c.moves)
	}
	row := report.Open(t, report.Loads, l.name, fmt.Sprintf("%s: %d at the standby, %d at the primary, moves: %d", last, len(c.standby), len(c.primary), c.moves))
	outcome := report.Passed
	if t.Failed() {
		outcome = report.Failed
	}
	row.Add(report.Result{Feature: l.verdict, Outcome: outcome})
}
