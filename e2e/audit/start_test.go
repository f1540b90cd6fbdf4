// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package audit

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	chain "github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// TestStart: a node whose spool is in use or damaged does not start, and says in one
// line why.
func TestStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Spec{})
	n := w.c.Nodes[0]
	ends(t, n, "audit spool: lock "+n.AuditDir+"/audit.lock: another process uses this directory")
	if err := n.StopNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, err := filepath.Glob(n.AuditDir + "/audit/*.seg")
	if err != nil || len(all) != 1 {
		t.Fatalf("segments: %v, %v", all, err)
	}
	whole, err := os.ReadFile(all[0])
	if err != nil {
		t.Fatal(err)
	}
	broken := append([]byte{}, whole...)
	broken[200]++
	if err := os.WriteFile(all[0], broken, 0o600); err != nil {
		t.Fatal(err)
	}
	ends(t, n, "audit spool: check "+all[0]+" at offset 112: damaged")
	if after, err := os.ReadFile(all[0]); err != nil || string(after) != string(broken) {
		t.Error("it was changed")
	}
	if err := os.WriteFile(all[0], whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.StartNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.arrived(t, n)
	w.sound(t, n.Log)
}

// ends sees that a start with the node's settings, but for its addresses, fails at once, in
// a line with these words.
func ends(t *testing.T, n *cluster.Node, words string) {
	t.Helper()
	binary, err := cluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	other := []string{"serve", "--config", n.Config, "--proxy-listen", cluster.FreeAddress(t), "--api-listen", cluster.FreeAddress(t), "--metrics-listen", "off"}
	out, err := exec.CommandContext(t.Context(), binary, other...).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), words) {
		t.Errorf("got %v, %s\nwant exit code 1 and one line with %s", err, out, words)
	}
}

// TestShipWrites: of what was only looked at the vault gets the place in the chain.
func TestShipWrites(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Spec{NodeEnv: map[string]string{"VAULT_AUDIT_SHIP": "writes"}})
	n := w.c.Nodes[0]
	w.super(t, func(conn *pgx.Conn) {
		cluster.Eventually(t, "a head that stays, which proves the start", func() bool {
			return cluster.Text(t, conn, "SELECT count(*)::text FROM vault.audit_anchors") == "1"
		})
	})
	w.at(t, w.dsn(n), func(conn *pgx.Conn) { read(t, conn, marker) })
	w.put(t, "last")
	w.super(t, func(conn *pgx.Conn) {
		cluster.Eventually(t, "the last record", func() bool {
			return cluster.Text(t, conn, "SELECT count(*)::text FROM vault.audit_log WHERE secret_name = 'last'") == "1"
		})
	})
	var got []string
	for _, r := range w.sound(t, n.Log).Rows {
		got = append(got, string(r.Action)+" "+r.Secret+" "+r.Reason)
		if want := (chain.Record{At: r.At, Action: chain.ActionWithheld}); r.Action == chain.ActionWithheld && r.Record != want {
			t.Errorf("withheld is not all of it: %+v", r.Record)
		}
	}
	if got, want := strings.Join(got, ", "), "start  first; ship writes, update marker , withheld  , update last "; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	cluster.Eventually(t, "all to count as shipped", func() bool { return n.Metric(t, "hyperion_vault_audit_shipped_record") == 4 })
}
