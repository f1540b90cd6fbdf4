// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package tools drives a node with the programs that operators have: psql,
// pgbench, pg_dump, walsender clients, pgcli, and poolers in front of it and
// behind.
package tools

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

var shared *cluster.Cluster

func TestMain(m *testing.M) {
	cluster.Main(m, cluster.Spec{Settings: map[string]string{
		"wal_level": "logical", "max_connections": "80", "log_statement": "all",
		"log_parameter_max_length": "-1", "log_parameter_max_length_on_error": "-1", "log_replication_commands": "on",
	}}, &shared)
}

// patience is far longer than a program takes: reaching it means that it hangs.
const patience = 2 * time.Minute

// bin is the path of one of PostgreSQL's programs.
func bin(t *testing.T, name string) string {
	t.Helper()
	dir, err := devcluster.FindServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// command makes one that has env and little else. It ends with the test.
func command(t *testing.T, env []string, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin:/usr/sbin", "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8", "TERM=dumb"}, env...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// output runs a program that must work and returns all that it printed.
func output(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	out, err := command(t, env, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// version is the first line that a program says of itself.
func version(t *testing.T, name string, args ...string) string {
	t.Helper()
	line, _, _ := strings.Cut(output(t, nil, name, args...), "\n")
	return line
}

// words takes the n-th word of a version's line.
func word(line string, n int) string {
	fields := strings.Fields(line)
	if n >= len(fields) {
		return line
	}
	return fields[n]
}

// libpq is the environment that connects libpq's programs to an address.
func libpq(t *testing.T, address, user, password string) []string {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return []string{
		"PGHOST=" + host, "PGPORT=" + port, "PGUSER=" + user, "PGPASSWORD=" + password,
		"PGDATABASE=" + shared.Database, "PGSSLMODE=disable", "PGCONNECT_TIMEOUT=10",
	}
}

// node is libpq's environment for the shared node, as the ordinary user.
func node(t *testing.T) []string {
	t.Helper()
	return libpq(t, shared.Nodes[0].Proxy, shared.User, shared.Password)
}

func write(t *testing.T, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
