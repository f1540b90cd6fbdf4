// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package audit

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	chain "github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// keepShort has a node delete what was shipped as soon as a segment is full.
var keepShort = map[string]string{"VAULT_AUDIT_KEEP": "1s"}

// TestRestore: a server that was restored to a point in time gets again what it has
// lost; of what the node keeps no more, it gets one record that says so.
func TestRestore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Spec{NodeEnv: keepShort})
	n := w.c.Nodes[0]
	b := w.backup(t)
	first := w.startLoad(t, 2) // what the WAL has beyond the backup
	cluster.Eventually(t, "clients at work", func() bool { return first.received() >= 50 })
	first.end()
	w.arrived(t, n)
	var target string
	w.super(t, func(conn *pgx.Conn) { target = cluster.Text(t, conn, "SELECT pg_catalog.clock_timestamp()::text") })

	w.put(t, "lost/marker")
	w.arrived(t, n)
	known := len(w.sound(t, n.Log).Rows)
	b.restore(t, target)
	w.at(t, w.dsn(n), func(conn *pgx.Conn) {
		if _, err := ask(t, conn, "SELECT vault.read_secret('lost/marker')"); err == nil {
			t.Error("nothing was lost: nothing was tested")
		}
	})
	w.arrived(t, n)
	a := w.sound(t, n.Log)
	first.compare(t, a)
	if len(a.Rows) <= known {
		t.Errorf("there are %d records, %d before the restore", len(a.Rows), known)
	}

	w.forget(t, n)
	b.restore(t, target)
	w.arrived(t, n) // which has it find out
	w.arrived(t, n)
	w.lost(t, "timeline ", n)
	w.arrived(t, n)
	w.lost(t, "timeline ", n)
}

// TestRestoreUnderLoad: while three nodes are at work their primary is restored to a point
// in time. What it has lost of any of them it gets again.
func TestRestoreUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Spec{Standbys: 2, Settings: cluster.PlainSettings()})
	b := w.backup(t)
	l := w.startLoad(t, 6)
	l.working(t)
	var target string
	w.super(t, func(conn *pgx.Conn) { target = cluster.Text(t, conn, "SELECT pg_catalog.clock_timestamp()::text") })
	w.arrived(t, w.c.Nodes...) // what is lost of each
	b.restore(t, target)
	l.working(t)
	l.end()
	w.arrived(t, w.c.Nodes...)
	l.compare(t, w.soundAfter(t, l, w.logs()...))
	for _, path := range w.logs() {
		if log, err := os.ReadFile(path); err != nil || !strings.Contains(string(log), shippedAgain) {
			t.Errorf("%s: %v, want %q", path, err, shippedAgain)
		}
	}
}

// shippedAgain is what a node says of records that the vault had before.
const shippedAgain = "the vault has lost audit records, which are shipped again"

// TestLostByFailover: a primary is lost with records that no other server has, and that
// the node has deleted since. The node says so.
func TestLostByFailover(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Spec{Standbys: 1, NodeEnv: keepShort, Settings: cluster.PlainSettings()})
	manager := cluster.Plain{Cluster: w.c}
	old := w.c.PrimaryNode()
	next := w.c.Others(old)[0]
	w.arrived(t, w.c.Nodes...)
	w.c.WaitStreaming(t)
	if err := next.Detach(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.forget(t, old)
	manager.Lose(t, old)
	manager.Failover(t)
	manager.Rejoin(t, old)
	w.c.WaitReady(t)
	w.arrived(t, w.c.Nodes...)
	w.arrived(t, w.c.Nodes...)
	w.lost(t, "timeline 1 to 2", w.c.Nodes...)
}

// forget has a node delete all that it has shipped: each start begins a segment, and
// the older ones go.
func (w *world) forget(t *testing.T, n *cluster.Node) {
	t.Helper()
	for range 2 {
		w.shipped(t, n)
		if err := n.StopNode(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := n.StartNode(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.shipped(t, n)
	cluster.Eventually(t, "segments to be deleted", func() bool { return n.Metric(t, "hyperion_vault_audit_segments") == 1 })
}

// lost sees that records are missing, which the node itself says and nothing else: a
// finding, since the program cannot know that it was restored.
func (w *world) lost(t *testing.T, why string, nodes ...*cluster.Node) {
	t.Helper()
	var logs []string
	for _, n := range nodes {
		logs = append(logs, n.Log)
	}
	a := w.c.Audit(t, logs...)
	var found []string
	for _, f := range a.Findings {
		if f.Kind != chain.LostByRestore {
			t.Errorf("found: %v", f)
			continue
		}
		found = append(found, f.Detail)
	}
	hole, gaps := holesIn(a.Rows), gapsOf(a.Rows)
	if len(hole) != 1 || len(gaps) != 1 || len(found) != 1 || !strings.HasPrefix(gaps[0], hole[0]+"; "+why) || !strings.HasPrefix(found[0], hole[0]+" are not there") {
		t.Errorf("missing is %q; recorded is a gap of %q, want one for it and %s; found is %q, want it once", hole, gaps, why, found)
	}
	if a.Compared == 0 {
		t.Error("no change was compared with records")
	}
}

// gapsOf are the gaps that are recorded.
func gapsOf(rows []chain.Row) (all []string) {
	for _, r := range rows {
		if r.Action == chain.ActionGap {
			all = append(all, r.Reason)
		}
	}
	return all
}

// holesIn is which records of any node are missing.
func holesIn(rows []chain.Row) (all []string) {
	for i := 1; i < len(rows); i++ {
		before, r := &rows[i-1], &rows[i]
		if r.Node == before.Node && r.Seq != before.Seq+1 {
			all = append(all, fmt.Sprintf("records %d to %d", before.Seq+1, r.Seq-1))
		}
	}
	return all
}

// A backup is one of the primary's, and the log from then on.
type backup struct {
	w    *world
	base string
	log  string // a directory
}

func (w *world) backup(t *testing.T) *backup {
	t.Helper()
	n := w.c.PrimaryNode()
	dir := filepath.Dir(n.DataDir)
	b := &backup{w: w, base: filepath.Join(dir, "base"), log: filepath.Join(dir, "log")}
	host, port, err := net.SplitHostPort(n.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	user, password := w.c.Replicator()
	cluster.Output(t, []string{"PGPASSWORD=" + password}, cluster.Bin(t, "pg_basebackup"), "--pgdata", b.base, "--host", host, "--port", port,
		"--username", user, "--no-password", "--wal-method", "stream", "--checkpoint", "fast", "--no-sync")
	cluster.Output(t, nil, "mkdir", b.log)
	return b
}

// restore puts the primary back to a point in time, as a new timeline, which standbys
// follow: they need PlainSettings.
func (b *backup) restore(t *testing.T, target string) {
	t.Helper()
	n := b.w.c.PrimaryNode()
	err := n.MoveData(t.Context(), func(path string) error {
		cluster.Output(t, nil, "cp", "-a", "--no-clobber", path+"/pg_wal/.", b.log)
		cluster.Output(t, nil, "chown", "-R", "--reference", path, b.base, b.log)
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		cluster.Output(t, nil, "cp", "-a", b.base, path)
		conf, err := os.OpenFile(filepath.Join(path, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer func() { _ = conf.Close() }() // the server would not find its target
		if _, err := fmt.Fprintf(conf, "restore_command = 'cp \"%s/%%f\" \"%%p\"'\nrecovery_target_time = '%s'\nrecovery_target_action = 'promote'\n", b.log, target); err != nil {
			return err
		}
		signal := filepath.Join(path, "recovery.signal")
		if err := os.WriteFile(signal, nil, 0o600); err != nil {
			return err
		}
		cluster.Output(t, nil, "chown", "--reference", path, signal)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b.w.super(t, func(conn *pgx.Conn) {
		cluster.Eventually(t, "the end of the restore", func() bool { return cluster.Text(t, conn, "SELECT pg_is_in_recovery()::text") == "false" })
		for _, setting := range []string{"restore_command", "recovery_target_time", "recovery_target_action"} {
			cluster.Exec(t, conn, "ALTER SYSTEM RESET "+setting) // a standby that is made from it would be restored, too
		}
	})
	for _, other := range b.w.c.Others(n) {
		cluster.Plain{Cluster: b.w.c}.Rejoin(t, other)
	}
	b.w.c.WaitReady(t)
}
