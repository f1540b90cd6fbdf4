// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package audit

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	chain "github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// TestPruned: what is deleted for its age leaves chains that begin behind an anchor, with
// which nodes go on: audit verify says so, and finds whatever is done to them there.
func TestPruned(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Spec{Standbys: 1, Settings: map[string]string{"hyperion_vault.audit_min_age": "0"}})
	w.arrived(t, w.c.Nodes...)
	w.super(t, func(conn *pgx.Conn) {
		cluster.Eventually(t, "all to be deleted, in the end changes, too", func() bool {
			return cluster.Text(t, conn, "SELECT vault.prune_audit(now())::text") == "0"
		})
	})
	for _, n := range w.c.Nodes {
		w.at(t, w.dsn(n), func(conn *pgx.Conn) {
			for range 3 {
				read(t, conn, marker)
			}
		})
	}
	w.arrived(t, w.c.Nodes...)
	first := w.pruned(t)

	_, ids := cluster.Trust(t, w.logs()...)
	for _, id := range ids {
		at := first[id]
		for _, c := range []struct {
			what, sql string
			kind      chain.Kind
			seq       uint64
		}{
			{"the first record changed", "UPDATE vault.audit_log SET secret_name = 'other' WHERE node_id = $1::text::uuid AND seq = $2", chain.Changed, at},
			{"the second one changed", "UPDATE vault.audit_log SET outcome = 'denied' WHERE node_id = $1::text::uuid AND seq = $2", chain.Changed, at + 1},
			{"the first one removed", "DELETE FROM vault.audit_log WHERE node_id = $1::text::uuid AND seq = $2", chain.Removed, at},
			{"what it follows changed", "UPDATE vault.audit_log SET prev_hash = sha256('other') WHERE node_id = $1::text::uuid AND seq = $2", chain.Changed, at},
		} {
			w.super(t, func(conn *pgx.Conn) {
				cluster.Exec(t, conn, "CREATE TABLE public.kept AS SELECT * FROM vault.audit_log WHERE node_id = $1::text::uuid AND seq = $2", pgx.QueryExecModeExec, id, c.seq)
				cluster.Exec(t, conn, c.sql, id, c.seq)
				if found := w.c.AuditBy(t, []string{"--min-age", "0s"}, w.logs()...).Findings; !finds(found, c.kind, id) {
					t.Errorf("%s: found is %v, want %s of node %s", c.what, found, c.kind, id)
				}
				cluster.Exec(t, conn, "DELETE FROM vault.audit_log l USING public.kept k WHERE l.node_id = k.node_id AND l.seq = k.seq")
				cluster.Exec(t, conn, "INSERT INTO vault.audit_log SELECT * FROM public.kept")
				cluster.Exec(t, conn, "DROP TABLE public.kept")
			})
		}
	}
	w.pruned(t)
}

// TestRetention: a node deletes from the vault what is older than VAULT_AUDIT_RETENTION.
func TestRetention(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Spec{
		NodeEnv: map[string]string{"VAULT_AUDIT_RETENTION": "1h"}, Settings: map[string]string{"hyperion_vault.audit_min_age": "0"},
	})
	n := w.c.Nodes[0]
	w.arrived(t, n)
	if err := n.StopNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := func(conn *pgx.Conn) string {
		return cluster.Text(t, conn, "SELECT min(seq)::text FROM vault.audit_log")
	}
	w.super(t, func(conn *pgx.Conn) {
		if got := first(conn); got != "1" {
			t.Errorf("the first record is %s already", got)
		}
		cluster.Exec(t, conn, "UPDATE vault.audit_anchors SET at = at - interval '61 min', kept_at = kept_at - interval '61 min'")
		if err := n.StartNode(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := cluster.Text(t, conn, "SELECT max(seq + 1)::text FROM vault.audit_anchors WHERE kept_at < now() - interval '1 hour'")
		cluster.Eventually(t, "old records to be deleted", func() bool { return first(conn) == want })
	})
	w.arrived(t, n)
}

func finds(found []cluster.AuditFinding, kind chain.Kind, node string) bool {
	for _, f := range found {
		if f.Kind == kind && f.Node == node {
			return true
		}
	}
	return false
}

// pruned sees that nothing is wrong with chains whose beginning is gone, but that for
// the age at which records are kept for sure, and returns with which record of each
// node they begin.
func (w *world) pruned(t *testing.T) (first map[string]uint64) {
	t.Helper()
	a := w.c.AuditBy(t, []string{"--min-age", "0s"}, w.logs()...)
	for _, f := range a.Findings {
		t.Errorf("found: %v", f)
	}
	noted := map[string]uint64{}
	for _, f := range a.Notes {
		if f.Kind == chain.Pruned {
			noted[f.Node] = f.Seq
		}
	}
	first = map[string]uint64{}
	for _, n := range a.Nodes {
		if first[n.Node] = n.First; n.First < 2 || n.Proven != n.Last || noted[n.Node] != n.First-1 {
			t.Errorf("node %s: records %d to %d, proven to %d, said to be pruned to %d", n.Node, n.First, n.Last, n.Proven, noted[n.Node])
		}
	}
	if len(first) != len(w.c.Nodes) {
		t.Errorf("there are chains of %d nodes, want %d", len(first), len(w.c.Nodes))
	}
	if a.Compared == 0 {
		t.Error("no change was compared with records")
	}
	young := w.c.Audit(t, w.logs()...).Findings
	for node := range first {
		if !finds(young, chain.Removed, node) {
			t.Errorf("as records that are kept for 90 days: found is %v, want some removed of node %s", young, node)
		}
	}
	return first
}
