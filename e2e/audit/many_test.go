// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package audit

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	chain "github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// TestManySecrets: a statement that shows 1,000 secrets leaves 1,000 records, in the
// spool before the client has what they stand for, and not long before: while the client
// does not take its rows, no more of them are opened.
func TestManySecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Spec{})
	n := w.c.Nodes[0]
	const many = 1000
	var names []string
	value := strings.Repeat("x", 16<<10) // together far more than buffers hold
	w.at(t, w.dsn(n), func(conn *pgx.Conn) {
		cluster.Exec(t, conn, "BEGIN")
		for i := range many {
			names = append(names, fmt.Sprintf("many/%d", i))
			cluster.Exec(t, conn, "SELECT vault.put_secret($1, $2)", names[i], value)
		}
		cluster.Exec(t, conn, "COMMIT")
	})

	conn := w.c.Connect(t, w.dsn(n), smallBuffer)
	rows, err := conn.Query(t.Context(), "SELECT n, vault.read_secret(n) FROM unnest($1::text[]) n", names)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	received := 0
	for rows.Next() {
		var name, got string
		if err := rows.Scan(&name, &got); err != nil || name != names[received] || got != value {
			t.Fatalf("row %d: got %s, %d bytes, %v", received, name, len(got), err)
		}
		if received++; received%100 != 1 {
			continue
		}
		recorded := spooledReads(t, n)
		if len(recorded) < received {
			t.Errorf("%d values are received, %d recorded", received, len(recorded))
		}
		if received == 1 && len(recorded) > many/2 {
			t.Errorf("%d values are recorded while the client has taken one", len(recorded))
		}
		t.Logf("%d received, %d recorded", received, len(recorded))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	recorded := spooledReads(t, n)
	for _, name := range names {
		if recorded[name] != 1 {
			t.Errorf("%s: %d records", name, recorded[name])
		}
	}
	if received != many || len(recorded) != many {
		t.Errorf("%d values are received, %d recorded, want %d", received, len(recorded), many)
	}
	w.arrived(t, n)
	w.sound(t, n.Log)
}

// smallBuffer has the kernel hold little for a client.
func smallBuffer(config *pgx.ConnConfig) {
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return conn, conn.(*net.TCPConn).SetReadBuffer(256 << 10) //nolint:forcetypeassert // the node's listener is TCP
	}
}

// spooledReads is how many records of reads of each of the many secrets a node's own
// files have now.
func spooledReads(t *testing.T, n *cluster.Node) map[string]int {
	t.Helper()
	binary, err := cluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	e, err := chain.ReadExport(strings.NewReader(cluster.Output(t, nil, binary, "audit", "export", "--spool", n.AuditDir)))
	if err != nil {
		t.Fatal(err)
	}
	reads := map[string]int{}
	for r, err := range e.Rows {
		if err != nil {
			t.Fatal(err)
		}
		if r.Action == chain.ActionRead && r.Outcome == chain.OutcomeOK && strings.HasPrefix(r.Secret, "many/") {
			reads[r.Secret]++
		}
	}
	return reads
}
