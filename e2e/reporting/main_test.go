// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package reporting runs what only reads, with the programs that people read
// with, through the node beside a standby, and counts which server ran each of
// their statements. What was counted is a table of docs/TRANSPARENCY.md.
package reporting

import (
	"context"
	"net"
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
	cluster.Main(m, cluster.Spec{Standbys: 1, Settings: map[string]string{
		"log_statement": "all", "log_line_prefix": linePrefix, "max_connections": "60", "timezone": "UTC",
	}}, &shared)
}

// patience is far longer than a program takes: reaching it means that it hangs.
const patience = 2 * time.Minute

// output runs a program that must work, through the i-th node, and returns all
// that it printed. Its sessions have the name.
func output(t *testing.T, i int, session string, env []string, command ...string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(shared.Nodes[i].Proxy)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append([]string{
		"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1",
		"PGHOST=" + host, "PGPORT=" + port, "PGUSER=" + shared.User, "PGPASSWORD=" + shared.Password,
		"PGDATABASE=" + shared.Database, "PGSSLMODE=disable", "PGCONNECT_TIMEOUT=10", "PGAPPNAME=" + session,
	}, env...)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

// bin is the path of one of PostgreSQL's programs.
func bin(t *testing.T, name string) string {
	t.Helper()
	dir, err := devcluster.FindServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}
