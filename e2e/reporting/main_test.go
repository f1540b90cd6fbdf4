// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package reporting runs what only reads, with the programs that people read
// with, through the node beside a standby, and counts which server ran each of
// their statements. What was counted is a table of docs/TRANSPARENCY.md.
package reporting

import (
	"slices"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

var shared *cluster.Cluster

func TestMain(m *testing.M) {
	cluster.Main(m, cluster.Spec{Standbys: 1, Settings: map[string]string{
		"log_statement": "all", "log_line_prefix": linePrefix, "max_connections": "60", "timezone": "UTC",
	}}, &shared)
}

// output runs a program that must work, through the i-th node, and returns all
// that it printed. Its sessions have the name.
func output(t *testing.T, i int, session string, env []string, command ...string) string {
	t.Helper()
	env = slices.Concat(shared.Libpq(t, shared.Nodes[i].Proxy, shared.User), []string{"PYTHONDONTWRITEBYTECODE=1", "PGAPPNAME=" + session}, env)
	return cluster.Output(t, env, command[0], command[1:]...)
}
