// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package tools drives a node with the programs that operators have: psql,
// pgbench, pg_dump, walsender clients, pgcli, and poolers in front of it and
// behind.
package tools

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

var shared *cluster.Cluster

func TestMain(m *testing.M) {
	cluster.Main(m, cluster.Spec{Settings: map[string]string{
		"wal_level": "logical", "max_connections": "80", "log_statement": "all",
		"log_parameter_max_length": "-1", "log_parameter_max_length_on_error": "-1", "log_replication_commands": "on",
	}}, &shared)
}

// version is the first line that a program says of itself.
func version(t *testing.T, name string, args ...string) string {
	t.Helper()
	line, _, _ := strings.Cut(cluster.Output(t, nil, name, args...), "\n")
	return line
}

// word takes the n-th word of a version's line.
func word(line string, n int) string {
	fields := strings.Fields(line)
	if n >= len(fields) {
		return line
	}
	return fields[n]
}

// node is libpq's environment for the shared node, as the ordinary user.
func node(t *testing.T) []string {
	t.Helper()
	return shared.Libpq(t, shared.Nodes[0].Proxy, shared.User)
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
