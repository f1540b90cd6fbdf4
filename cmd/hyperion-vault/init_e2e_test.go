// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
)

func TestInit(t *testing.T) {
	c, env := serversOnly(t, devcluster.Config{Binary: os.Args[0], Standbys: 1})
	primary, standby := c.Nodes[0], c.Nodes[1]
	super := func(n *devcluster.Node, database, sql string) string {
		return ask(t, n.Postgres, c.Superuser, c.SuperuserPassword, database, sql)
	}

	t.Run("again", func(t *testing.T) { // the cluster was initialised by its start
		code, out, errOut := finish(t, env, "init", "--database", c.Database, "--json", "--hosts", primary.Postgres+","+standby.Postgres)
		var r initResult
		if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil {
			t.Fatalf("got %d, %v: %s", code, err, errOut)
		}
		if r.VaultID != c.VaultID || r.AdminToken != "" || len(r.Done) != 0 {
			t.Errorf("got %+v; want the same vault %s, no token, nothing done", r, c.VaultID)
		}
	})
	t.Run("standby alone", func(t *testing.T) {
		code, _, errOut := finish(t, env, "init", "--database", c.Database, "--hosts", standby.Postgres)
		if code != exitFault || !strings.Contains(errOut, "every server named is a standby") {
			t.Errorf("got %d: %s", code, errOut)
		}
	})
	t.Run("a host that is away", func(t *testing.T) {
		code, _, errOut := finish(t, env, "init", "--database", "postgres", "--hosts", primary.Postgres+",127.0.0.1:1")
		if code != exitFault || !strings.Contains(errOut, "127.0.0.1:1") {
			t.Errorf("got %d: %s", code, errOut)
		}
		if got := super(primary, "postgres", "SELECT count(*)::text FROM pg_extension WHERE extname = 'hyperion_vault'"); got != "0" {
			t.Error("something was changed although one host could not be asked")
		}
	})
	t.Run("not a superuser", func(t *testing.T) {
		code, _, errOut := finish(t, append(slices.Clone(env), "PGUSER="+c.User, "PGPASSWORD="+c.Password), "init", "--database", c.Database)
		if code != exitFault || !strings.Contains(errOut, "is not a superuser") {
			t.Errorf("got %d: %s", code, errOut)
		}
	})
	t.Run("new password", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "made.password")
		code, _, errOut := finish(t, env, "init", "--database", c.Database, "--reset-service-password", "--service-password-file", file)
		if code != 0 {
			t.Fatalf("got %d: %s", code, errOut)
		}
		password, err := readSecretFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, primary.Postgres, "vault_service", password, c.Database, "SELECT current_user::text"); got != "vault_service" {
			t.Errorf("log-in with the new password: got %s", got)
		}
		log, err := os.ReadFile(primary.ServerLog())
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(log, []byte(password)) {
			t.Error("the password is in the server's log")
		}
		// Again: the role keeps it, and nothing is said if it is the one that is meant.
		dir := t.TempDir()
		other, missing := filepath.Join(dir, "other.password"), filepath.Join(dir, "missing.password")
		if err := os.WriteFile(other, []byte("another\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for given, want := range map[string]string{
			file: "", other: "which is another one than that given; --reset-service-password gives it this one",
			missing: missing + " was not made; --reset-service-password makes it", "-": "which was not compared: stdin holds no password",
		} {
			code, out, errOut := finish(t, env, "init", "--database", c.Database, "--service-password-file", given)
			if code != 0 || !strings.Contains(out, want) || strings.Contains(out, "keeps its password") != (want != "") {
				t.Errorf("%s: got %d: %s%s", given, code, out, errOut)
			}
		}
		if _, err := os.Stat(missing); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a file for a password that nobody has: %v", err)
		}
	})
	t.Run("a server that cannot be asked", func(t *testing.T) {
		for want, args := range map[string][]string{
			`database "nope" does not exist (SQLSTATE 3D000); make it on the primary (createdb nope), or wait until this standby has replayed that`: {"PGPORT=" + env[1][len("PGPORT="):], "nope"},
			`(SQLSTATE 28P01); name a superuser that its pg_hba.conf admits (PGUSER), and his password (PGPASSWORD or PGPASSFILE)`:                  {"PGPASSWORD=wrong", c.Database},
			`connection refused; start it, or name another host or port (--hosts)`:                                                                  {"PGPORT=1", c.Database},
		} {
			code, _, errOut := finish(t, append(slices.Clone(env), args[0]), "init", "--database", args[1])
			if code != exitFault || !strings.Contains(errOut, want) {
				t.Errorf("got %d: %s\nwant %s", code, errOut, want)
			}
		}
	})
	t.Run("one vault", func(t *testing.T) {
		// Also if the server does not say where it is: init has set what is preloaded there.
		for _, named := range []string{c.Database, "postgres"} {
			execute(t, c, "ALTER SYSTEM SET hyperion_vault.database = "+named)
			execute(t, c, "SELECT pg_reload_conf()")
			eventually(t, "the setting", func() bool {
				return super(primary, "postgres", "SELECT current_setting('hyperion_vault.database')") == named
			})
			code, _, errOut := finish(t, env, "init", "--hosts", primary.Postgres+","+standby.Postgres)
			if code != exitFault || !strings.Contains(errOut, `the cluster's vault is in database "`+c.Database+`", and a cluster has one: run init with --database `+c.Database+`;`) {
				t.Errorf("got %d: %s", code, errOut)
			}
			if got := super(primary, "postgres", "SELECT count(*)::text FROM pg_extension WHERE extname = 'hyperion_vault'"); got != "0" {
				t.Error("there is a second vault")
			}
		}
		execute(t, c, "ALTER SYSTEM RESET hyperion_vault.database")
		execute(t, c, "SELECT pg_reload_conf()")
	})
	t.Run("settings", func(t *testing.T) {
		if got := super(primary, c.Database, "SELECT array_to_string(setconfig, ';') FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database() AND setrole = 0"); got != "session_preload_libraries=hyperion_vault" {
			t.Errorf("database settings: got %q", got)
		}
		// Another database than the servers' files name, which has no vault any more: ALTER SYSTEM on both.
		execute(t, c, "DROP EXTENSION hyperion_vault")
		code, _, errOut := finish(t, env, "init", "--database", "postgres", "--hosts", primary.Postgres+","+standby.Postgres)
		if code != 0 {
			t.Fatalf("got %d: %s", code, errOut)
		}
		for _, n := range []*devcluster.Node{primary, standby} {
			eventually(t, n.Name+" knows the database", func() bool {
				return super(n, "postgres", "SELECT current_setting('hyperion_vault.database')") == "postgres"
			})
		}
	})
}

// TestInitToken: whatever goes wrong, the first admin token is one that was shown, or is made
// by the next init.
func TestInitToken(t *testing.T) {
	c, env := serversOnly(t, devcluster.Config{Binary: os.Args[0]})
	const database = "postgres"
	super := func(sql string, args ...any) string {
		t.Helper()
		return ask(t, c.Nodes[0].Postgres, c.Superuser, c.SuperuserPassword, database, sql, args...)
	}
	tokens := func(want string) {
		t.Helper()
		if got := super("SELECT count(*)::text FROM vault.admin_tokens"); got != want {
			t.Errorf("there are %s tokens, want %s", got, want)
		}
	}
	execute(t, c, "DROP EXTENSION hyperion_vault")

	// ALTER SYSTEM wants to make a file of this name.
	inTheWay := filepath.Join(c.Nodes[0].DataDir, "postgresql.auto.conf.tmp")
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	code, out, errOut := finish(t, env, "init", "--database", database)
	if code != exitFault || !strings.Contains(errOut, "postgresql.auto.conf.tmp") {
		t.Errorf("a setting that cannot be made: got %d: %s%s", code, out, errOut)
	}
	tokens("0")
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}

	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close() // nothing fits
	unshown := exec.CommandContext(t.Context(), os.Args[0], "init", "--database", database)
	unshown.Env, unshown.Stdout = env, full
	if err := unshown.Run(); unshown.ProcessState.ExitCode() != exitFault {
		t.Errorf("no place for what it prints: got %v", err)
	}
	tokens("0")

	// Of all that init does only the token's commit waits, for a standby that is not there.
	for _, sql := range []string{
		"CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('synchronous_commit', 'on', true); RETURN new; END $$",
		"CREATE TRIGGER wait BEFORE INSERT ON vault.admin_tokens FOR EACH ROW EXECUTE FUNCTION wait()",
		"ALTER ROLE " + c.Superuser + " SET synchronous_commit = local",
	} {
		executeIn(t, c, database, sql)
	}
	execute(t, c, "ALTER SYSTEM SET synchronous_standby_names = nobody")
	execute(t, c, "SELECT pg_reload_conf()")
	p := startProgram(t, env, "init", "--database", database, "--json")
	eventually(t, "its commit waits", func() bool {
		return super("SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'hyperion-vault init' AND wait_event = 'SyncRep'") == "1"
	})
	code, out = p.terminate(t)
	var r initResult
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitFault || r.AdminToken == "" {
		t.Errorf("a token that may count was not shown: got %d, %v: %s%s", code, err, out, p.err.String())
	}
	execute(t, c, "ALTER SYSTEM RESET synchronous_standby_names")
	execute(t, c, "SELECT pg_reload_conf()")
	eventually(t, "the commit ends", func() bool { return super("SELECT count(*)::text FROM vault.admin_tokens") == "1" })
	if hash := sha256.Sum256([]byte(r.AdminToken)); super("SELECT (token_sha256 = $1)::text FROM vault.admin_tokens", hash[:]) != "true" {
		t.Error("the token that was shown is not the one that counts")
	}
}
