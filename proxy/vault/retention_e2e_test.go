// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package vault

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// TestKeepPruning: the loop deletes what is older than was asked for, up to an anchor, and
// goes on; what the server keeps for its age stays, which is said once.
func TestKeepPruning(t *testing.T) {
	c := startServers(t, 0)
	run(t, c, "CREATE ROLE vault_service LOGIN PASSWORD "+quoteLiteral(servicePassword), "CREATE EXTENSION hyperion_vault",
		"SELECT vault.grant_service_role('vault_service')")
	var said syncBuffer
	v, _ := nodeOf(t, c, c.Primary(), func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&said, nil)) })
	spool, err := audit.Open(t.TempDir(), audit.Options{Sync: audit.SyncAlways})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := spool.Close(); err != nil {
			t.Error(err)
		}
	})
	ship := func() {
		t.Helper()
		for range 3 {
			if err := spool.Append(t.Context(), []audit.Record{{Face: audit.FaceSQL, Action: audit.ActionRead, Outcome: audit.OutcomeOK, Secret: "s"}}); err != nil {
				t.Fatal(err)
			}
		}
		stop := make(chan struct{})
		close(stop)
		v.KeepShipping(t.Context(), spool, ShipAll, stop)
	}
	ship()
	old := spool.Status().Shipped
	if old == 0 {
		t.Fatal("nothing was shipped")
	}
	run(t, c, "UPDATE vault.audit_log SET at = at - interval '100 days'", "UPDATE vault.audit_heads SET at = at - interval '100 days'",
		"UPDATE vault.audit_anchors SET at = at - interval '100 days', kept_at = kept_at - interval '100 days'",
		"INSERT INTO vault.changes (action, subject, at) VALUES ('grant', 'old', now() - interval '101 days'), ('grant', 'young', now())")
	ship()
	all := spool.Status().Shipped

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		v.keepPruning(ctx, time.Hour, 10*time.Millisecond, 10*time.Millisecond)
	}()
	defer func() { cancel(); <-ended }()
	const refused = "old audit records cannot be deleted from the vault"
	eventually(t, refused, func() bool { return strings.Contains(said.String(), refused) })
	if from, to := chainOf(t, c); from != 1 || to != all {
		t.Errorf("records %d to %d are left, want all %d: the server keeps them for 90 days", from, to, all)
	}
	run(t, c, "LOAD 'hyperion_vault'", "ALTER SYSTEM SET hyperion_vault.audit_min_age = '30 min'", "SELECT pg_catalog.pg_reload_conf()")
	eventually(t, "old records and changes to be deleted", func() bool {
		v.store.pool.Reset()
		var n int
		ask(t, c, "SELECT count(*) FROM vault.changes", &n)
		return n == 1
	})
	if from, to := chainOf(t, c); from != old+1 || to != all {
		t.Errorf("records %d to %d are left, want %d to %d", from, to, old+1, all)
	}
	if n := strings.Count(said.String(), refused); n != 1 {
		t.Errorf("said %d times that they cannot be deleted:\n%s", n, said.String())
	}
	var anchored bool
	var changes string
	ask(t, c, `SELECT EXISTS (SELECT FROM vault.audit_anchors a JOIN vault.audit_log l ON l.node_id = a.node_id AND l.seq = a.seq + 1 AND l.prev_hash = a.hash
 WHERE l.seq = (SELECT min(seq) FROM vault.audit_log)), (SELECT string_agg(subject, ' ') FROM vault.changes)`, &anchored, &changes)
	if !anchored || changes != "young" {
		t.Errorf("the chain that is left begins behind an anchor: %v; changes that are left: %q", anchored, changes)
	}
}

// chainOf is which records the vault has.
func chainOf(t *testing.T, c *devcluster.Cluster) (from, to uint64) {
	t.Helper()
	ask(t, c, "SELECT min(seq), max(seq) FROM vault.audit_log", &from, &to)
	return from, to
}

func ask(t *testing.T, c *devcluster.Cluster, sql string, into ...any) {
	t.Helper()
	conn, err := c.Primary().ConnectServer(t.Context(), c.Superuser, c.SuperuserPassword, c.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }() // nothing is pending
	if err := conn.QueryRow(t.Context(), sql, pgx.QueryExecModeSimpleProtocol).Scan(into...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
