// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package audit

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	chain "github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// TestClone: a node that runs with a copy of another one's directory opens nothing, and
// says what to do; as a node of its own it works.
func TestClone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Spec{})
	n := w.c.Nodes[0]
	w.arrived(t, n)
	if err := n.StopNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "copy")
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", n.AuditDir, dir).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v: %s", err, out)
	}
	if err := n.StartNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.arrived(t, n)

	settings := map[string]string{"VAULT_AUDIT_DIR": dir}
	clone := n.StartUnready(t, settings)
	t.Cleanup(func() {
		if t.Failed() {
			log, err := os.ReadFile(clone.Log)
			t.Logf("the clone: %v\n%s", err, log)
		}
	})
	cluster.Eventually(t, "readyz to tell", func() bool {
		status, part := readyz(t, clone.REST)
		return status == "degraded" && strings.Contains(part, "cloned or restored")
	})
	conn := w.c.Connect(t, w.c.AddressDSN(clone.Proxy, w.c.User))
	_, err := ask(t, conn, "SELECT vault.read_secret($1)", marker)
	refused(t, "a read", err)
	if _, err := ask(t, conn, "SELECT 'untouched'"); err != nil {
		t.Error(err)
	}
	clone.Stop()

	binary, err := cluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), binary, "serve", "--check", "--config", clone.Config).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "FAULT audit") || !strings.Contains(string(out), "--new-identity") {
		t.Errorf("serve --check: %v\n%s", err, out)
	}

	clone = n.StartUnready(t, settings, "--new-identity")
	conn = w.c.Connect(t, w.c.AddressDSN(clone.Proxy, w.c.User))
	cluster.Eventually(t, "the node to be well", func() bool { status, _ := readyz(t, clone.REST); return status == "ok" })
	read(t, conn, marker)
	_, ids := cluster.Trust(t, clone.Log)
	super := w.c.Connect(t, w.c.SuperDSN(0))
	cluster.Eventually(t, "the records of the new node", func() bool {
		return cluster.Text(t, super, "SELECT count(*)::text FROM vault.audit_log WHERE node_id = $1::text::uuid AND action = 'read'", ids[0]) == "1"
	})
	if kept, err := filepath.Glob(dir + "/audit.retired-*/*.seg"); err != nil || len(kept) == 0 {
		t.Errorf("what it had is not kept: %v, %v", kept, err)
	}
	w.arrived(t, n)
	for _, r := range w.sound(t, n.Log, clone.Log).Rows {
		if r.Action == chain.ActionGap {
			t.Errorf("a gap is recorded: %v", r)
		}
	}
	if log, err := os.ReadFile(n.Log); err != nil || strings.Contains(string(log), "not shipped") {
		t.Errorf("the other node has noticed something: %v, %s", err, log)
	}
}

// TestCloneWithoutPrimary: that a node is a copy shows by the server beside it, while no
// primary can say so.
func TestCloneWithoutPrimary(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Spec{Standbys: 1, Settings: cluster.PlainSettings()})
	primary, n := w.c.Nodes[0], w.c.Nodes[1]
	w.arrived(t, w.c.Nodes...)
	if err := n.StopNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "copy")
	cluster.Output(t, nil, "cp", "-a", n.AuditDir, dir)
	if err := n.StartNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.arrived(t, w.c.Nodes...)
	w.c.WaitStreaming(t)
	if err := primary.StopServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	clone := n.StartUnready(t, map[string]string{"VAULT_AUDIT_DIR": dir})
	cluster.Eventually(t, "readyz to tell", func() bool {
		_, part := readyz(t, clone.REST)
		return strings.Contains(part, "cloned or restored")
	})
	conn := w.c.Connect(t, w.c.AddressDSN(clone.Proxy, w.c.User))
	_, err := ask(t, conn, "SELECT vault.read_secret($1)", marker)
	refused(t, "a read", err)
	w.at(t, w.dsn(n), func(conn *pgx.Conn) { read(t, conn, marker) }) // the other one is no copy
	if err := primary.StartServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.arrived(t, w.c.Nodes...)
	_, err = ask(t, conn, "SELECT vault.read_secret($1)", marker)
	refused(t, "a read with a primary", err)
}
