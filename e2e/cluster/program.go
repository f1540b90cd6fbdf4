// SPDX-License-Identifier: GPL-3.0-or-later

package cluster

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
)

// patience is far longer than a program takes: reaching it means that it hangs.
const patience = 2 * time.Minute

// Bin is the path of one of PostgreSQL's programs.
func Bin(tb testing.TB, name string) string {
	tb.Helper()
	dir, err := devcluster.FindServer(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// Command makes one that has env and little else. It ends with the test.
func Command(tb testing.TB, env []string, name string, args ...string) *exec.Cmd {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	tb.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // a test says which
	cmd.Env = append([]string{"PATH=/usr/bin:/bin:/usr/sbin", "HOME=" + tb.TempDir(), "LC_ALL=C.UTF-8", "TERM=dumb"}, env...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Output runs a program that must work and returns all that it printed.
func Output(tb testing.TB, env []string, name string, args ...string) string {
	tb.Helper()
	out, err := Command(tb, env, name, args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Status runs `status` for the node and returns its exit code too: 0 ready, 1 not, 2
// nobody answers.
func (n *Node) Status(tb testing.TB, args ...string) (out string, code int) {
	tb.Helper()
	binary, err := Binary()
	if err != nil {
		tb.Fatal(err)
	}
	text, err := Command(tb, nil, binary, append([]string{"status", "--config", n.Config}, args...)...).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(text), exit.ExitCode()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return string(text), 0
}

// Libpq is the environment that connects libpq's programs to an address. The user
// is as for DSN.
func (c *Cluster) Libpq(tb testing.TB, address, user string) []string {
	tb.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		tb.Fatal(err)
	}
	return []string{
		"PGHOST=" + host, "PGPORT=" + port, "PGUSER=" + user, "PGPASSWORD=" + c.password(user),
		"PGDATABASE=" + c.Database, "PGSSLMODE=disable", "PGCONNECT_TIMEOUT=10",
	}
}

// Run runs a command of the program under test for the node, by its settings and
// env: it must work.
func (n *Node) Run(tb testing.TB, env []string, command string, args ...string) string {
	tb.Helper()
	binary, err := Binary()
	if err != nil {
		tb.Fatal(err)
	}
	return Output(tb, env, binary, append([]string{command, "--config", n.Config}, args...)...)
}
