// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hyperiondb/hyperion-vault/cmd/canary"
	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
)

// A provedCluster is what prove is to judge: a primary and a standby that log no
// statement.
type provedCluster struct {
	*devcluster.Cluster
	env []string
}

func startProved(t *testing.T) *provedCluster {
	t.Helper()
	c := startCluster(t, devcluster.Config{
		Binary: os.Args[0], Standbys: 1,
		ServerSettings: map[string]string{
			"shared_preload_libraries": "pg_stat_statements,auto_explain,hyperion_vault", "wal_compression": "pglz", "pg_stat_statements.track": "none",
		},
	})
	p := &provedCluster{Cluster: c}
	p.super(t, "CREATE EXTENSION pg_stat_statements; CREATE ROLE stranger LOGIN PASSWORD 'stranger'; CREATE ROLE prover LOGIN PASSWORD 'prover'")
	p.super(t, "SELECT vault.grant_access('prover', 'canary/*', 'read', 'verify', 'create', 'update', 'rotate', 'delete')") // as OPERATIONS.md has it
	p.replayed(t, p.Database)
	passfile := filepath.Join(t.TempDir(), "pgpass")
	text := fmt.Sprintf("*:*:*:%s:%s\n*:*:*:prover:prover\n*:*:*:stranger:stranger\n", c.Superuser, c.SuperuserPassword)
	if err := os.WriteFile(passfile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(c.Nodes[0].Proxy)
	if err != nil {
		t.Fatal(err)
	}
	p.env = []string{
		"PGHOST=" + host, "PGPORT=" + port, "PGUSER=prover", "PGDATABASE=" + c.Database, "PGPASSFILE=" + passfile, "PGSSLMODE=disable",
		"HYPERION_VAULT_ADDR=" + c.Nodes[0].REST, "HYPERION_VAULT_TOKEN=" + c.AdminToken,
	}
	return p
}

// replayed waits until the standby has a database, and pg_stat_statements in it.
func (p *provedCluster) replayed(t *testing.T, database string) {
	t.Helper()
	eventually(t, "the standby to have "+database, func() bool {
		conn, err := p.Nodes[1].ConnectServer(t.Context(), p.Superuser, p.SuperuserPassword, database)
		if err != nil {
			return false
		}
		defer conn.Close(t.Context()) // its result was read
		var there bool
		err = conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_stat_statements')").Scan(&there)
		return err == nil && there
	})
}

// super runs SQL at the primary itself, and returns what it answers.
func (p *provedCluster) super(t *testing.T, sql string) string {
	t.Helper()
	conn, err := p.Nodes[0].ConnectServer(t.Context(), p.Superuser, p.SuperuserPassword, p.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) // its results were read
	results, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	var b strings.Builder
	for _, result := range results {
		for _, row := range result.Rows {
			for _, column := range row {
				b.Write(append(column, ' '))
			}
		}
	}
	return b.String()
}

func conninfo(t *testing.T, address, user string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("host=%s port=%s user=%s", host, port, user)
}

// everything are the flags that leave no place and no door out.
func (p *provedCluster) everything(t *testing.T) []string {
	t.Helper()
	args := []string{
		"--base-backup", "--dump", "--login", "standby=" + conninfo(t, p.Nodes[1].Proxy, "prover"),
		"--login", "stranger=" + conninfo(t, p.Nodes[0].Proxy, "stranger"), "--login", "replication=" + conninfo(t, p.Nodes[0].Proxy, p.Superuser),
		"--require", "data,wal,log,node-log,audit,views,base-backup,dump,doors,rest",
	}
	for _, n := range p.Nodes {
		args = append(args, "--server", conninfo(t, n.Postgres, p.Superuser), "--data-dir", n.DataDir, "--log", n.ServerLog(), "--node-log", n.NodeLog(), "--audit-dir", n.AuditDir)
	}
	return args
}

// prove runs the command and returns what it says as JSON.
func (p *provedCluster) prove(t *testing.T, env []string, args ...string) (int, *proof, string) {
	t.Helper()
	code, out, errs := finish(t, slices.Concat(p.env, env), slices.Concat([]string{"prove", "--json"}, args)...)
	r := &proof{}
	if code != exitUsage && out != "" {
		if err := json.Unmarshal([]byte(out), r); err != nil {
			t.Fatalf("exit code %d: %v: %s%s", code, err, out, errs)
		}
	}
	return code, r, errs
}

// checkClean sees that nothing of a run has stayed.
func (p *provedCluster) checkClean(t *testing.T) {
	t.Helper()
	for _, sql := range []string{
		"SELECT name FROM vault.secrets WHERE deleted_at IS NULL",
		"SELECT nspname FROM pg_namespace WHERE nspname LIKE 'hyperion_vault_%'",
		"SELECT relname FROM pg_class WHERE relname LIKE 'canary%' AND relpersistence <> 't'",
		"SELECT setconfig FROM pg_db_role_setting WHERE setrole <> 0",
		"SELECT query FROM pg_stat_activity WHERE application_name = 'hyperion-vault prove'",
	} {
		if got := p.super(t, sql); got != "" {
			t.Errorf("%s: %s is still there", sql, got)
		}
	}
}

// TestProve judges a cluster that keeps its promise, and then one that does not.
func TestProve(t *testing.T) {
	p := startProved(t)
	t.Run("clean", p.checkProved)
	t.Run("blind", p.checkBlind)
	t.Run("usage", p.checkUsage)
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP} {
		t.Run("stopped by "+signal.String(), func(t *testing.T) { p.checkStopped(t, signal) })
	}
	t.Run("unheard", p.checkUnheard)
	t.Run("twice", p.checkTwice)
	t.Run("compressed", p.checkCompressed)
	t.Run("leak", p.checkLeak)
}

func (p *provedCluster) checkProved(t *testing.T) {
	p.super(t, "ALTER ROLE prover IN DATABASE app SET log_statement = 'ddl'; ALTER ROLE prover IN DATABASE app SET work_mem = '8MB'")
	const settings = "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'prover'::regrole"
	before := p.super(t, settings)
	code, r, errs := p.prove(t, nil, p.everything(t)...)
	if code != exitOK || r.Verdict != verdictProved || len(r.Findings)+len(r.Faults)+len(r.NotLooked)+len(r.NotOpened) > 0 {
		t.Errorf("exit code %d: %+v: %s", code, r, errs)
	}
	if r.Doors != len(canary.Doors()) || r.RESTDoors != len(canary.RESTDoors()) {
		t.Errorf("%d doors of SQL and %d of REST: want all", r.Doors, r.RESTDoors)
	}
	if len(r.Looked) != 16 { // on each node: data, WAL, log, node's log, audit, two views; and two copies
		t.Errorf("looked at %d places, want 16", len(r.Looked))
	}
	for _, l := range r.Looked {
		if !l.Control || l.Bytes == 0 || l.Found > 0 {
			t.Errorf("%+v", l)
		}
	}
	if got := p.super(t, settings); len(r.Settings) != 3 || got != before { // of the prover in two databases, of stranger
		t.Errorf("changed: %q; the role's settings are %s, were %s", r.Settings, got, before)
	}
	p.super(t, "ALTER ROLE prover IN DATABASE app RESET ALL")
	p.checkClean(t)
}

// checkBlind: what could not be looked at is no proof, and the report says of each
// thing why.
func (p *provedCluster) checkBlind(t *testing.T) {
	primary, standby, none := p.Nodes[0], p.Nodes[1], t.TempDir()
	code, r, errs := p.prove(t, []string{"HYPERION_VAULT_TOKEN="},
		"--as-is", "--server", conninfo(t, primary.Postgres, p.Superuser), "--server", "host=127.0.0.1 port=1 user=postgres", "--server", conninfo(t, standby.Postgres, "prover"),
		"--data-dir", none, "--log", primary.ServerLog(), "--log", standby.ServerLog(), "--log", filepath.Join(none, "log"), "--audit-dir", standby.AuditDir,
		"--login", "stranger=host=127.0.0.1 port=1", "--require", "dump,doors,rest")
	if code != exitBlind || r.Verdict != verdictBlind || len(r.Settings) > 0 {
		t.Errorf("exit code %d: %+v: %s", code, r, errs)
	}
	for _, want := range []string{
		"views 127.0.0.1:1: ",
		`views ` + standby.Postgres + `: "prover" is not a superuser`,
		"data " + none + ": no data directory",
		"wal " + none + "/pg_wal: ",
		"log " + primary.ServerLog() + ": the control was not found", // nobody logs anything
		"log " + standby.ServerLog() + ": the control was not found",
		"log " + none + "/log: ",
		"audit " + standby.AuditDir + ": the control was not found", // nothing went through that node
		"--login stranger: ",
		"--require dump: ", "--require doors: ", "--require rest: ",
	} {
		if !slices.ContainsFunc(r.Faults, func(fault string) bool { return strings.HasPrefix(fault, want) }) {
			t.Errorf("%q is no fault of %q", want, r.Faults)
		}
	}
	if len(r.Faults) != 12 {
		t.Errorf("%d faults, want 12: %q", len(r.Faults), r.Faults)
	}
	p.checkClean(t)
}

func (p *provedCluster) checkUsage(t *testing.T) {
	for want, args := range map[string][]string{
		"nothing to look at":         nil,
		"--dump need a --server":     {"--data-dir", "/nowhere", "--dump"},
		"--require \"everything\"":   {"--data-dir", "/nowhere", "--require", "everything"},
		"a password on a command":    {"--server", "host=127.0.0.1 password=x"},
		"should be standby=CONNINFO": {"--data-dir", "/nowhere", "--login", "owner=host=127.0.0.1"},
	} {
		if code, _, errs := p.prove(t, nil, args...); code != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%q: exit code %d: %s, want %q", args, code, errs, want)
		}
	}
}

// checkTwice: what another run has set is no setting that was there before.
func (p *provedCluster) checkTwice(t *testing.T) {
	var set strings.Builder
	for _, s := range logging {
		if p.super(t, "SELECT current_setting('"+s[0]+"', true) IS NOT NULL") == "t " {
			set.WriteString("ALTER ROLE prover IN DATABASE app SET " + s[0] + " = '" + s[1] + "';")
		}
	}
	p.super(t, set.String())
	code, _, errs := p.prove(t, nil, p.everything(t)...)
	if code != exitBlind || !strings.Contains(errs, "role prover logs everything in database app already") || strings.Contains(errs, "left behind") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	p.super(t, "ALTER ROLE prover IN DATABASE app RESET ALL")
	p.checkClean(t)
}

// checkUnheard: a reader of its stderr that goes away does not end it before it has
// cleaned up.
func (p *provedCluster) checkUnheard(t *testing.T) {
	s := exec.CommandContext(t.Context(), os.Args[0], append([]string{"prove", "--progress"}, p.everything(t)...)...)
	s.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, p.env...)
	errs, err := s.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(errs)
	for said.Scan() && !strings.Contains(said.Text(), "doors of SQL: 20 of") {
	}
	_ = errs.Close() // as the reader does
	_ = s.Wait()     // its code tells
	if code := s.ProcessState.ExitCode(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	p.checkClean(t)
}

// checkStopped: the end among the doors, by Ctrl-C or of the terminal, leaves nothing.
func (p *provedCluster) checkStopped(t *testing.T, signal os.Signal) {
	t.Helper()
	s := startProgram(t, p.env, append([]string{"prove", "--progress"}, p.everything(t)...)...)
	eventually(t, "it opens doors", func() bool { return strings.Contains(s.err.String(), "doors of SQL: 20 of") })
	if err := s.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	if out, err := io.ReadAll(s.out); err != nil || len(out) > 0 {
		t.Errorf("got %s, %v, want no report", out, err)
	}
	_ = s.cmd.Wait() // its code tells
	if code := s.cmd.ProcessState.ExitCode(); code != exitBlind || strings.Contains(s.err.String(), "left behind") {
		t.Errorf("exit code %d: %s", code, s.err.String())
	}
	p.checkClean(t)
}

// checkCompressed: what PostgreSQL itself compresses can be looked into.
func (p *provedCluster) checkCompressed(t *testing.T) {
	for method, form := range map[string]string{"pglz": "in pglz", "lz4": ""} {
		one := canary.New(method, "compressed")
		table := "compressed_" + method
		p.super(t, "CREATE TABLE "+table+" (v text COMPRESSION "+method+"); INSERT INTO "+table+
			" SELECT repeat('abcdefgh', 500) || '"+one.Value()+"' || repeat('12345678', 500); CHECKPOINT")
		file := strings.TrimSpace(p.super(t, "SELECT pg_relation_filepath('"+table+"')"))
		size := p.super(t, "SELECT pg_column_size(v) < 1000 FROM "+table)
		scanner := canary.NewScanner([]*canary.Canary{one})
		err := scanner.Tree(filepath.Join(p.Nodes[0].DataDir, file))
		if err != nil || size != "t " || len(scanner.Findings) < 2 || !strings.Contains(scanner.Findings[0].Form, form) {
			t.Errorf("%s: %v, got %v, small: %s", method, err, scanner.Findings, size)
		}
		p.super(t, "DROP TABLE "+table)
	}
}

// plainVault is a vault that keeps values in an ordinary table: what a cluster would
// look like whose node seals nothing.
const plainVault = `CREATE SCHEMA vault; CREATE TABLE vault.kept (name text, value text);
	CREATE FUNCTION vault.put_secret(name text, value text, description text = NULL) RETURNS int LANGUAGE sql AS 'INSERT INTO vault.kept VALUES ($1, $2) RETURNING 1';
	CREATE FUNCTION vault.create_secret(name text, kind text, value text = NULL, rotation_interval interval = NULL, grace_period interval = NULL, description text = NULL)
		RETURNS int LANGUAGE sql AS 'INSERT INTO vault.kept VALUES ($1, $3) RETURNING 1';
	CREATE FUNCTION vault.rotate_secret(name text, value text = NULL) RETURNS int LANGUAGE sql AS 'INSERT INTO vault.kept VALUES ($1, $2) RETURNING 1';
	CREATE FUNCTION vault.verify_secret(name text, value text) RETURNS int LANGUAGE sql AS 'SELECT 1 FROM vault.kept WHERE kept.name = $1 AND kept.value = $2';
	CREATE FUNCTION vault.read_secret(name text, version int = NULL, missing_ok bool = false) RETURNS text LANGUAGE sql AS 'SELECT value FROM vault.kept WHERE kept.name = $1';
	CREATE FUNCTION vault.delete_secret(name text) RETURNS bool LANGUAGE sql AS 'DELETE FROM vault.kept WHERE kept.name = $1; SELECT true';
	GRANT USAGE ON SCHEMA vault TO prover; GRANT ALL ON ALL TABLES IN SCHEMA vault TO prover`

// checkLeak: a leak is found in each place where the server writes, and the report
// shows no value.
func (p *provedCluster) checkLeak(t *testing.T) {
	p.super(t, "CREATE DATABASE plain")
	conn, err := p.Nodes[0].ConnectServer(t.Context(), p.Superuser, p.SuperuserPassword, "plain")
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.PgConn().Exec(t.Context(), plainVault+"; CREATE EXTENSION pg_stat_statements").ReadAll()
	if err = errors.Join(err, conn.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	p.replayed(t, "plain")
	_, port, err := net.SplitHostPort(p.Nodes[0].Postgres)
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"PGPORT=" + port, "PGDATABASE=plain", "HYPERION_VAULT_TOKEN="}
	args := []string{"--base-backup", "--dump", "--login", "standby=" + conninfo(t, p.Nodes[1].Postgres, "prover")}
	for _, n := range p.Nodes {
		args = append(args, "--server", conninfo(t, n.Postgres, p.Superuser), "--data-dir", n.DataDir, "--log", n.ServerLog())
	}
	code, r, errs := p.prove(t, env, args...)
	if code != exitFault || r.Verdict != verdictFound {
		t.Fatalf("exit code %d: %+v: %s", code, r, errs)
	}
	for _, l := range r.Looked {
		quiet := strings.HasPrefix(l.Place, "pg_stat_activity of ") || // by now others are there
			strings.HasPrefix(l.Place, "pg_stat_statements of "+p.Nodes[1].Postgres) // nothing worked
		if l.Found == 0 && !quiet {
			t.Errorf("no value was found in %s %s", l.Kind, l.Place)
		}
	}
	seen := slices.ContainsFunc(r.Findings, func(f foundCanary) bool { return strings.HasPrefix(f.Place, "pg_stat_activity") })
	if len(r.Looked) != 12 || !seen {
		t.Errorf("looked at %d places, want 12; seen in pg_stat_activity: %t; %+v", len(r.Looked), seen, r.NotLooked)
	}
}
