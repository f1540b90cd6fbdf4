// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
)

// TestServeWithoutServer: a node starts before its server and says so; --check
// turns the same into an exit code.
func TestServeWithoutServer(t *testing.T) {
	c := startCluster(t, devcluster.Config{Binary: os.Args[0], Standbys: 1})
	n := c.Nodes[0]
	code, out, _ := finish(t, nil, "serve", "--check", "--config", n.Config)
	if code != 0 || strings.Contains(out, "FAULT") || strings.Contains(out, "ALTER EXTENSION") || !strings.Contains(out, "with local:") {
		t.Errorf("--check of a healthy node: got %d:\n%s", code, out)
	}
	fresh := filepath.Join(t.TempDir(), "new")
	code, out, _ = finish(t, []string{"VAULT_AUDIT_DIR=" + fresh}, "serve", "--check", "--config", n.Config)
	if _, err := os.Stat(fresh); code != 0 || !strings.Contains(out, "the first start pins it") || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("--check before the first start: got %d, %v:\n%s", code, err, out)
	}
	execute(t, c, "UPDATE pg_extension SET extversion = '1.1' WHERE extname = 'hyperion_vault'")
	if code, out, _ = finish(t, nil, "serve", "--check", "--config", n.Config); code != 0 || !strings.Contains(out, "ALTER EXTENSION hyperion_vault UPDATE") {
		t.Errorf("--check with an older extension: got %d:\n%s", code, out)
	}

	if err := errors.Join(n.StopNode(t.Context()), n.StopServer(t.Context())); err != nil {
		t.Fatal(err)
	}
	code, out, _ = finish(t, nil, "serve", "--check", "--config", n.Config)
	if code != exitFault || !strings.Contains(out, "FAULT server") || !strings.Contains(out, "FAULT primary") {
		t.Errorf("--check without a server: got %d:\n%s", code, out)
	}

	// A new audit directory: the node does not even know its vault.
	node := startProgram(t, []string{"VAULT_AUDIT_DIR=" + filepath.Join(t.TempDir(), "new")}, "serve", "--config", n.Config)
	eventually(t, "healthz", func() bool { status, _ := get(t, n.REST+"/healthz"); return status == 200 })
	if status, body := get(t, n.REST+"/readyz"); status != 503 || !strings.Contains(body, `"unavailable"`) {
		t.Errorf("readyz without a server: got %d, %s", status, body)
	}
	_, err := connectTo(t.Context(), n.Proxy, c.User, c.Password, c.Database)
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "57P03" {
		t.Errorf("log-in without a server: got %v, want 57P03", err)
	}
	if err := n.StartServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "readyz", func() bool {
		status, body := get(t, n.REST+"/readyz")
		return status == 200 && !strings.Contains(body, "degraded")
	})
	if got := ask(t, n.Proxy, c.User, c.Password, c.Database, "SELECT vault.put_secret('a', 'b')::text"); got != "1" {
		t.Errorf("put: got %s, want 1", got)
	}

	t.Run("reload", func(t *testing.T) { checkReload(t, c, n, node) })

	records := t.TempDir()
	other := startProgram(t, []string{"VAULT_AUDIT_DIR=" + records}, "serve", "--config", n.Config)
	if err := other.cmd.Wait(); err == nil || !strings.Contains(other.err.String(), "cannot listen on") {
		t.Errorf("a second node on the same ports: got %v: %s", err, other.err.String())
	}
	if left, err := os.ReadDir(records); err != nil || len(left) > 0 {
		t.Errorf("who cannot start has recorded that he did: %v, %v", left, err)
	}
	if code, _ := node.terminate(t); code != 0 {
		t.Errorf("exit code: got %d: %s", code, node.err.String())
	}
}

// checkReload changes the node's file and sends SIGHUP.
func checkReload(t *testing.T, c *devcluster.Cluster, n *devcluster.Node, node *program) {
	t.Helper()
	original, err := os.ReadFile(n.Config)
	if err != nil {
		t.Fatal(err)
	}
	reload := func(old, changed, wantLog string) {
		t.Helper()
		text := strings.Replace(string(original), old, changed, 1)
		if err := os.WriteFile(n.Config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		before := strings.Count(node.err.String(), wantLog)
		if err := node.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, wantLog, func() bool { return strings.Count(node.err.String(), wantLog) > before })
	}
	read := func() error {
		conn, err := connectTo(t.Context(), n.Proxy, c.User, c.Password, c.Database)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context()) // its result was read
		var value string
		return conn.QueryRow(t.Context(), "SELECT vault.read_secret('a')").Scan(&value)
	}
	const again = "the settings were read again"
	reload("VAULT_ALLOWED_IPS=loopback", "VAULT_ALLOWED_IPS=192.0.2.0/24", again)
	var pg *pgconn.PgError
	if err := read(); !errors.As(err, &pg) || pg.Code != "42501" {
		t.Errorf("a read from an address that is no longer allowed: got %v, want 42501", err)
	}
	reload("VAULT_ALLOWED_IPS=loopback", "VAULT_ALLOWED_IPS=everywhere", "nothing was changed")
	if err := read(); !errors.As(err, &pg) {
		t.Errorf("a wrong file changed something: got %v, want 42501", err)
	}
	reload("VAULT_DRAIN_SECS=1", "VAULT_DRAIN_SECS=2", `"settings":"VAULT_DRAIN_SECS"`)
	if err := read(); err != nil {
		t.Errorf("a read from an address that is allowed again: %v", err)
	}
	reload("", "", again)
}
