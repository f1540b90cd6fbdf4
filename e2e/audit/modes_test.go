// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package audit

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestShipOff: nothing comes to the vault, and the node's own files have all; status
// says so. With shipping on again the vault gets everything.
func TestShipOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Spec{NodeEnv: map[string]string{"VAULT_AUDIT_SHIP": "off", "VAULT_AUDIT_KEEP": "1s"}})
	n := w.c.Nodes[0]
	for range 2 { // each start begins a segment
		w.at(t, w.dsn(n), func(conn *pgx.Conn) { read(t, conn, marker) })
		if err := n.StopNode(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := n.StartNode(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if said, _ := n.Status(t); !strings.Contains(said, "0 of them shipped (VAULT_AUDIT_SHIP=off)") {
		t.Errorf("status says %s", said)
	}
	w.super(t, func(conn *pgx.Conn) {
		if there := cluster.Text(t, conn, "SELECT (SELECT count(*) FROM vault.audit_log) + (SELECT count(*) FROM vault.audit_heads) || ''"); there != "0" {
			t.Errorf("%s rows are in the vault", there)
		}
	})
	if segments := n.Metric(t, "hyperion_vault_audit_segments"); segments != 3 {
		t.Errorf("the node has %v segments, want all 3", segments)
	}

	loose := n.StartLoose(t, map[string]string{"VAULT_AUDIT_SHIP": "all", "VAULT_AUDIT_DIR": stopped(t, n)})
	w.super(t, func(conn *pgx.Conn) {
		cluster.Eventually(t, "all to be shipped", func() bool {
			return cluster.Text(t, conn, "SELECT count(*)::text FROM vault.audit_log WHERE action = 'start'") == "4"
		})
	})
	w.sound(t, n.Log)
	loose.Stop()
}

// TestShipWritesFromNowOn: what was read before a node withholds what is read is shipped
// whole: it would pass for hidden by somebody else.
func TestShipWritesFromNowOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Spec{NodeEnv: map[string]string{"VAULT_AUDIT_SHIP": "off"}})
	n := w.c.Nodes[0]
	w.at(t, w.dsn(n), func(conn *pgx.Conn) { read(t, conn, marker) })
	loose := n.StartLoose(t, map[string]string{"VAULT_AUDIT_SHIP": "writes", "VAULT_AUDIT_DIR": stopped(t, n)})
	w.super(t, func(conn *pgx.Conn) {
		cluster.Eventually(t, "all to be shipped", func() bool {
			return cluster.Text(t, conn, "SELECT count(*)::text FROM vault.audit_log WHERE action = 'start'") == "2"
		})
		if there := cluster.Text(t, conn, "SELECT count(*)::text FROM vault.audit_log WHERE action = 'read' AND secret_name = $1", marker); there != "1" {
			t.Errorf("the read is there %s times", there)
		}
	})
	w.sound(t, n.Log)
	loose.Stop()
}

// stopped ends a node and returns its directory.
func stopped(t *testing.T, n *cluster.Node) string {
	t.Helper()
	if err := n.StopNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n.AuditDir
}

// TestDrain: a node that ends in order ships what it has recorded until then, although
// that is not on the disk yet.
func TestDrain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Spec{})
	n := w.c.Nodes[0]
	const rounds = 5
	for i := range rounds {
		name := fmt.Sprintf("last/%d", i)
		w.at(t, w.dsn(n), func(conn *pgx.Conn) {
			cluster.Exec(t, conn, "SELECT vault.put_secret($1, $2)", name, valueOf(name))
			read(t, conn, name)
		})
		stopped(t, n)
		w.super(t, func(conn *pgx.Conn) {
			if there := cluster.Text(t, conn, "SELECT count(*)::text FROM vault.audit_log WHERE secret_name = $1", name); there != "2" {
				t.Errorf("of the last 2 records the vault has %s", there)
			}
		})
		w.sound(t, n.Log)
		if err := n.StartNode(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
