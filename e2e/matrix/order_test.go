// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e && matrix

package matrix

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestUpgradeOrder upgrades a cluster as docs/COMPATIBILITY.md says: packages on all
// hosts, then the servers restarted, one node after the other, the extension last. At
// each step everything works at every node. What there was before, and what there is
// today, is where run.sh says: the program MATRIX_OLDER, and the extension's files
// below MATRIX_EXTENSIONS.
func TestUpgradeOrder(t *testing.T) {
	check(t, "the upgrade of a cluster: packages, servers restarted, nodes one by one, ALTER EXTENSION")
	before, extensions := os.Getenv("MATRIX_OLDER"), os.Getenv("MATRIX_EXTENSIONS")
	today, err := cluster.Binary()
	if err != nil || before == "" || extensions == "" {
		t.Fatalf("run.sh says nothing of what was before: %v", err)
	}
	t.Cleanup(func() { install(t, filepath.Join(extensions, "today")) })
	install(t, filepath.Join(extensions, "older"))
	program := filepath.Join(t.TempDir(), "hyperion-vault")
	replace(t, before, program)
	t.Setenv("HYPERION_VAULT_BINARY", program)
	c := cluster.Start(t, cluster.Spec{
		Standbys: 1, Settings: map[string]string{"hyperion_vault.scan_interval_secs": "1"},
		NodeEnv: map[string]string{"VAULT_ROTATION_POLL_SECS": "1"},
	})
	version := func() string {
		return cluster.Text(t, c.Connect(t, c.SuperDSN(0)), "SELECT extversion FROM pg_extension WHERE extname = 'hyperion_vault'")
	}
	from := version()
	works(t, c, "old")

	install(t, filepath.Join(extensions, "today"))
	replace(t, today, program)
	for _, n := range slices.Backward(c.Nodes) {
		if err := n.StopServer(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := n.StartServer(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.WaitStreaming(t)
		c.WaitReady(t)
		works(t, c, "with-new-library-"+n.Name)
		rotates(t, c, "with-new-library-"+n.Name+"/rotates")
	}
	for _, n := range slices.Backward(c.Nodes) {
		if err := n.StopNode(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := n.StartNode(t.Context()); err != nil {
			t.Fatal(err)
		}
		works(t, c, "with-new-"+n.Name)
		rotates(t, c, "with-new-"+n.Name+"/rotates")
	}
	for i := range c.Nodes {
		if got := cluster.Text(t, c.Connect(t, c.DSN(i, c.User)), "SELECT vault.read_secret('old/node1')"); got != "two" {
			t.Errorf("what an old node put: got %q", got)
		}
	}
	if got := version(); got != from {
		t.Errorf("before ALTER EXTENSION: got %s, want %s", got, from)
	}
	upgrade(t, c)
	if got := version(); got == from {
		t.Errorf("after ALTER EXTENSION: still %s", got)
	}
	seen(t, "%s to %s", from, version())
}

// install puts the files of an extension, which were installed below a directory,
// where the server looks for them.
func install(t *testing.T, below string) {
	t.Helper()
	if err := filepath.WalkDir(below, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			replace(t, path, strings.TrimPrefix(path, below))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// replace puts a file in another's place as a package does: processes keep the file
// that they run.
func replace(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to+".new", text, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(to+".new", to); err != nil {
		t.Fatal(err)
	}
}
