// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package audit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	chain "github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// TestRestore: a server that was restored to an earlier state gets again what it has
// lost; of what the node keeps no more, it gets one record that says so.
func TestRestore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Spec{NodeEnv: map[string]string{"VAULT_AUDIT_KEEP": "1s"}})
	n := w.c.Nodes[0]
	w.arrived(t, n)
	restore := w.backup(t, n)

	l := w.startLoad(t, 2)
	cluster.Eventually(t, "clients at work", func() bool { return l.received() >= 200 })
	l.end()
	w.arrived(t, n)
	known := len(w.sound(t, n.Log))

	restore()
	w.arrived(t, n)
	all := w.sound(t, n.Log)
	l.compare(t, all)
	if len(all) <= known {
		t.Errorf("there are %d records, %d before the restore", len(all), known)
	}

	// Each start begins a segment; the older ones go.
	for range 2 {
		w.arrived(t, n)
		if err := n.StopNode(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := n.StartNode(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.arrived(t, n)
	cluster.Eventually(t, "segments to be deleted", func() bool { return n.Metric(t, "hyperion_vault_audit_segments") == 1 })
	restore()
	w.arrived(t, n) // which has it find out
	w.arrived(t, n)
	all, report := w.verify(t, n.Log)
	gap := gapOf(t, all)
	if gap == "" || gap != holeIn(all) {
		t.Errorf("recorded is a gap of %s, missing are %s", gap, holeIn(all))
	}
	for _, f := range report.Findings {
		if f.Kind != chain.Removed {
			t.Errorf("found: %v", f)
		}
	}
	w.arrived(t, n)
	if all, _ = w.verify(t, n.Log); gapOf(t, all) != holeIn(all) {
		t.Errorf("later a gap of %s is recorded, missing are %s", gapOf(t, all), holeIn(all))
	}
}

// backup copies the server's data as they are; restore puts them back.
func (w *world) backup(t *testing.T, n *cluster.Node) (restore func()) {
	t.Helper()
	aside := filepath.Join(filepath.Dir(n.DataDir), "backup")
	tree := func(from, to string) error {
		if out, err := exec.CommandContext(t.Context(), "cp", "-a", from, to).CombinedOutput(); err != nil {
			return fmt.Errorf("copy: %w: %s", err, out)
		}
		return nil
	}
	if err := n.MoveData(t.Context(), func(path string) error { return tree(path, aside) }); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		err := n.MoveData(t.Context(), func(path string) error {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			return tree(aside, path)
		})
		if err != nil {
			t.Fatal(err)
		}
		w.c.WaitReady(t)
	}
}

// gapOf is the range of the one gap that is recorded.
func gapOf(t *testing.T, rows []chain.Row) (span string) {
	t.Helper()
	for _, r := range rows {
		if r.Action != chain.ActionGap {
			continue
		}
		if span != "" {
			t.Errorf("a second gap is recorded: %s", r.Reason)
		}
		span, _, _ = strings.Cut(r.Reason, "; timeline ")
	}
	return span
}

// holeIn is which records of the one node are missing.
func holeIn(rows []chain.Row) string {
	for i := 1; i < len(rows); i++ {
		if before := rows[i-1].Seq; rows[i].Seq != before+1 {
			return fmt.Sprintf("records %d to %d", before+1, rows[i].Seq-1)
		}
	}
	return "nothing"
}
