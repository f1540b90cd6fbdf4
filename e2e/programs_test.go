// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// program runs one of PostgreSQL's and returns what it printed on stdout and on
// stderr.
func program(t *testing.T, env []string, name string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	bindir, err := devcluster.FindServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(bindir, name), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8"}, env...)
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// mustRun is program for what must work.
func mustRun(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	stdout, stderr, err := program(t, env, name, args...)
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, stderr)
	}
	return stdout
}

// libpq is the environment that connects to address as the superuser.
func libpq(t *testing.T, c *cluster.Cluster, address string) []string {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return []string{
		"PGHOST=" + host, "PGPORT=" + port, "PGUSER=" + c.Superuser, "PGPASSWORD=" + c.SuperuserPassword,
		"PGDATABASE=" + c.Database, "PGSSLMODE=disable", "PGCONNECT_TIMEOUT=10",
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
