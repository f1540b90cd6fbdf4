// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package vault

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// TestShipLog: what a node has recorded is in the vault as it was, once; what is not in
// its place is told; and old records go when the server lets them.
func TestShipLog(t *testing.T) {
	c := startServers(t, 0)
	run(t, c, "CREATE ROLE vault_service LOGIN PASSWORD "+quoteLiteral(servicePassword), "CREATE EXTENSION hyperion_vault VERSION '1.5'",
		"SELECT vault.grant_service_role('vault_service')")
	v, _ := nodeOf(t, c, c.Primary(), nil)
	l := &shipLog{v}
	node, b := recorded(t)
	if _, err := l.position(t.Context(), node); !errors.Is(err, errOldExtension) {
		t.Errorf("extension 1.5: got %v, want %v", err, errOldExtension)
	}
	if _, err := v.pruneAudit(t.Context(), time.Now()); !errors.Is(err, errOldExtension) {
		t.Errorf("extension 1.5: got %v, want %v", err, errOldExtension)
	}
	run(t, c, "ALTER EXTENSION hyperion_vault UPDATE")

	last := checkShipped(t, c, l, b)

	run(t, c, "UPDATE vault.audit_heads SET seq = 0, hash = pg_catalog.decode(pg_catalog.repeat('00', 32), 'hex')",
		"UPDATE vault.audit_log SET hash = pg_catalog.sha256('planted') WHERE seq = 2")
	if _, err := l.append(t.Context(), b, ShipAll, false); !errors.Is(err, errConflict) || !strings.Contains(err.Error(), "record 2 of node "+node.String()) {
		t.Errorf("another row in the place: got %v, want %v, with record and node", err, errConflict)
	}
	run(t, c, "DELETE FROM vault.audit_log WHERE seq = 2")
	if got, err := l.append(t.Context(), b, ShipAll, false); err != nil || got != last {
		t.Errorf("without it: got %v, %v", got, err)
	}

	_, err := v.pruneAudit(t.Context(), time.Now())
	wantKind(t, err, KindInvalid)
	run(t, c, "LOAD 'hyperion_vault'", "ALTER SYSTEM SET hyperion_vault.audit_min_age = 0", "SELECT pg_catalog.pg_reload_conf()")
	run(t, c, `CREATE FUNCTION public.in_time() RETURNS trigger LANGUAGE plpgsql AS
 $$BEGIN ASSERT current_setting('statement_timeout') = '20s'; RETURN NULL; END$$`,
		"CREATE TRIGGER in_time BEFORE DELETE ON vault.audit_log EXECUTE FUNCTION public.in_time()")
	eventually(t, "records to be deleted", func() bool {
		v.store.pool.Reset()
		n, err := v.pruneAudit(t.Context(), time.Now())
		return err == nil && n == int64(b.N)
	})
	if got, err := l.position(t.Context(), node); err != nil || got != last {
		t.Errorf("after that: got %v, %v, want %v", got, err, last)
	}
}

// checkShipped: a batch is stored as it is, once, however often it comes.
func checkShipped(t *testing.T, c *devcluster.Cluster, l *shipLog, b *audit.Batch) (last audit.Position) {
	t.Helper()
	node := b.Node
	last = b.Head.Position
	rows, err := b.Rows()
	if err != nil {
		t.Fatal(err)
	}
	half := *b
	half.After = rows[1].Position()
	for _, step := range []struct {
		what string
		do   func() (audit.Position, error)
		want audit.Position
	}{
		{"before anything", func() (audit.Position, error) { return l.position(t.Context(), node) }, audit.Position{}},
		{"what does not follow", func() (audit.Position, error) { return l.append(t.Context(), &half, ShipAll, false) }, audit.Position{}},
		{"all", func() (audit.Position, error) { return l.append(t.Context(), b, ShipAll, false) }, last},
		{"read back", func() (audit.Position, error) { return l.position(t.Context(), node) }, last},
		{"all again", func() (audit.Position, error) { return l.append(t.Context(), b, ShipAll, false) }, last},
	} {
		if got, err := step.do(); err != nil || got != step.want {
			t.Errorf("%s: got %v, %v, want %v", step.what, got, err, step.want)
		}
	}
	var stored strings.Builder
	conn, err := c.Primary().ConnectServer(t.Context(), c.Superuser, c.SuperuserPassword, c.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }() // nothing is pending
	lines, err := conn.Query(t.Context(), `SELECT concat_ws('|', seq, extract(epoch FROM at), actor, session_role, client_ip, face, database, action, secret_name,
 version, outcome, direct, reason, change, statement) FROM vault.audit_log WHERE seq > 1 ORDER BY seq`)
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	for lines.Next() {
		var line string
		if err := lines.Scan(&line); err != nil {
			t.Fatal(err)
		}
		stored.WriteString(line + "\n")
	}
	lines.Close()
	if want := "2|1700000000.123456|o'brien \"x|ä|2001:db8::1|sql|app|update|a/b|7|ok|t|x|9|-1\n" +
		"3|1700000001.000000|rest|read|failed|f\n"; stored.String() != want {
		t.Errorf("stored is\n%swant\n%s", stored.String(), want)
	}
	return last
}

// recorded is a batch with a record that has all, and one that has little.
func recorded(t *testing.T) (audit.NodeID, *audit.Batch) {
	t.Helper()
	spool, err := audit.Open(t.TempDir(), audit.Options{Sync: audit.SyncAlways})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := spool.Close(); err != nil {
			t.Error(err)
		}
	})
	err = spool.Append(t.Context(), []audit.Record{
		{
			At: time.Unix(1_700_000_000, 123_456_000), Actor: `o'brien "x`, SessionRole: "ä", Addr: netip.MustParseAddr("2001:db8::1"), Face: audit.FaceSQL,
			Database: "app", Action: audit.ActionUpdate, Secret: "a/b", Version: 7, Outcome: audit.OutcomeOK, Direct: true, Reason: "x", Change: 9,
			Statement: 1<<64 - 1,
		},
		{At: time.Unix(1_700_000_001, 0), Face: audit.FaceREST, Action: audit.ActionRead, Outcome: audit.OutcomeFailed},
	})
	if err != nil {
		t.Fatal(err)
	}
	cursor, err := spool.Cursor(audit.Position{})
	if err != nil {
		t.Fatal(err)
	}
	defer cursor.Close()
	b, err := cursor.Next(10)
	if err != nil || b.N != 3 {
		t.Fatalf("%d rows, %v", b.N, err)
	}
	node, _, _ := spool.Identity()
	return node, &b
}
