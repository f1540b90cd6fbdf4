// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package main

import (
	"bytes"
	"encoding/json"
	"os"
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
	})
	t.Run("settings", func(t *testing.T) {
		if got := super(primary, c.Database, "SELECT array_to_string(setconfig, ';') FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database() AND setrole = 0"); got != "session_preload_libraries=hyperion_vault" {
			t.Errorf("database settings: got %q", got)
		}
		// Another database than the servers' files name: ALTER SYSTEM on both.
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
