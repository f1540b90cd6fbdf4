// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
)

func TestDev(t *testing.T) {
	sql := filepath.Join(t.TempDir(), "load.sql")
	if err := os.WriteFile(sql, []byte("CREATE TABLE loaded (n int);\nINSERT INTO loaded VALUES (7);\nSELECT vault.put_secret('loaded/secret', 'from a file');\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProgram(t, []string{"VAULT_ROTATION_POLL_SECS=2", "VAULT_PG_DBNAME=elsewhere", "VAULT_ADDR=http://other"},
		"dev", "--json", "--standbys", "1", "--sql", sql, "--pg-setting", "log_statement=all")
	line, err := bufio.NewReader(p.out).ReadString('\n')
	if err != nil {
		t.Fatalf("no ready line: %v: %s", err, p.err.String())
	}
	var c devcluster.Cluster
	if err := json.Unmarshal([]byte(line), &c); err != nil {
		t.Fatal(err)
	}
	first, second := c.Nodes[0], c.Nodes[1]
	if got, want := [2]devcluster.Role{first.Role, second.Role}, [2]devcluster.Role{devcluster.RolePrimary, devcluster.RoleStandby}; got != want {
		t.Errorf("roles: got %v, want %v", got, want)
	}

	t.Run("SQL", func(t *testing.T) {
		if got := ask(t, first.Proxy, c.User, c.Password, c.Database, "SELECT n::text FROM loaded"); got != "7" {
			t.Errorf("the loaded table: got %s, want 7", got)
		}
		if got := ask(t, first.Proxy, c.User, c.Password, c.Database, "SELECT vault.read_secret('loaded/secret')"); got != "from a file" {
			t.Errorf("through the primary's node: got %q", got)
		}
		eventually(t, "the secret on the standby", func() bool {
			return ask(t, second.Postgres, c.Superuser, c.SuperuserPassword, c.Database, "SELECT count(*)::text FROM vault.secrets") == "1"
		})
		if got := ask(t, second.Proxy, c.User, c.Password, c.Database, "SELECT vault.read_secret('loaded/secret')"); got != "from a file" {
			t.Errorf("through the standby's node: got %q", got)
		}
	})
	t.Run("HTTP", func(t *testing.T) {
		for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/readyz?require=primary,kms": 200, "/v1/secrets": 401, "/v1/roles": 401} {
			if got, body := get(t, second.REST+path); got != want {
				t.Errorf("%s: got %d, want %d: %s", path, got, want, body)
			}
		}
		if status, body := get(t, first.Metrics); status != 200 || !strings.Contains(body, `hyperion_vault_part_usable{part="kms"} 1`) {
			t.Errorf("metrics: got %d: %s", status, body)
		}
	})
	t.Run("token", func(t *testing.T) {
		hash := sha256.Sum256([]byte(c.AdminToken))
		got := ask(t, first.Postgres, c.Superuser, c.SuperuserPassword, c.Database, "SELECT count(*)::text FROM vault.admin_tokens WHERE token_sha256 = $1", hash[:])
		if got != "1" {
			t.Errorf("tokens with that hash: got %s, want 1", got)
		}
	})
	t.Run("settings", func(t *testing.T) {
		text, err := os.ReadFile(first.Config)
		if err != nil {
			t.Fatal(err)
		}
		for part, want := range map[string]bool{"VAULT_ROTATION_POLL_SECS=2\n": true, "VAULT_PG_DBNAME=app\n": true, "elsewhere": false, "VAULT_ADDR": false} {
			if got := strings.Contains(string(text), part); got != want {
				t.Errorf("%q in the node's file: got %v, want %v", part, got, want)
			}
		}
		if info, err := os.Stat(first.Config); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the node's file: got mode %v, error %v, want 0600", info.Mode().Perm(), err)
		}
	})
	t.Run("a node dies and is started again", func(t *testing.T) {
		if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a line about the death", func() bool { return strings.Contains(p.err.String(), "node1: hyperion-vault ended") })
		again := startProgram(t, nil, "serve", "--config", first.Config)
		eventually(t, "the node's return", func() bool { status, _ := get(t, first.REST+"/readyz"); return status == 200 })
		if got := ask(t, first.Proxy, c.User, c.Password, c.Database, "SELECT vault.read_secret('loaded/secret')"); got != "from a file" {
			t.Errorf("after the restart: got %q", got)
		}
		if code, _ := again.terminate(t); code != 0 {
			t.Errorf("its exit code: got %d, want 0: %s", code, again.err.String())
		}
	})

	began := time.Now()
	code, rest := p.terminate(t)
	if took := time.Since(began); code != 0 || rest != "" || took > 10*time.Second {
		t.Errorf("the end: got code %d, more output %q, after %s; want 0, none, at most 10s", code, rest, took)
	}
	for _, pid := range []int{first.PostgresPID, second.PostgresPID, second.PID} {
		if !processGone(pid) {
			t.Errorf("process %d is still there", pid)
		}
	}
	if dir := filepath.Dir(filepath.Dir(first.Config)); dir == "/" || !errors.Is(func() error { _, err := os.Stat(dir); return err }(), os.ErrNotExist) {
		t.Errorf("%s is still there", dir)
	}
}
