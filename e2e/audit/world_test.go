// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package audit

import (
	"encoding/json"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	chain "github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// A world is a cluster, and what is known of its nodes' chains.
type world struct {
	c        *cluster.Cluster
	arrivals int
}

const marker = "marker"

func newWorld(t *testing.T, spec cluster.Spec) *world {
	t.Helper()
	w := &world{c: cluster.Start(t, spec)}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range w.c.Nodes {
				log, err := os.ReadFile(n.Log)
				t.Logf("%s: %v\n%s", n.Name, err, log[max(0, len(log)-8<<10):])
			}
		}
	})
	w.put(t, marker)
	return w
}

// put gives secrets a value that tells whose it is.
func (w *world) put(t *testing.T, names ...string) {
	t.Helper()
	w.at(t, w.dsn(w.c.PrimaryNode()), func(conn *pgx.Conn) {
		for _, name := range names {
			cluster.Exec(t, conn, "SELECT vault.put_secret($1, $2)", name, valueOf(name))
		}
	})
	for i, n := range w.c.Nodes {
		if n != w.c.PrimaryNode() {
			w.c.WaitReplayed(t, i)
		}
	}
}

func valueOf(name string) string { return "the value of " + name }

func (w *world) dsn(n *cluster.Node) string { return w.c.AddressDSN(n.Proxy, w.c.User) }

// super is a connection to the present primary's server, which ends with f.
func (w *world) super(t *testing.T, f func(*pgx.Conn)) {
	t.Helper()
	w.at(t, w.c.AddressDSN(w.c.PrimaryNode().Postgres, w.c.Superuser), f)
}

func (w *world) at(t *testing.T, dsn string, f func(*pgx.Conn)) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer func() { _ = conn.Close(t.Context()) }() // what it did was looked at
	f(conn)
}

// trust is what nodes have said of themselves at their first starts, in the order of
// a log.
func trust(t *testing.T, logs ...string) (trusted chain.Trust, ids []string) {
	t.Helper()
	var lines []string
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var said struct {
				Msg, Trust string
				ID         string `json:"node_id"`
			}
			if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "audit identity" {
				lines, ids = append(lines, said.Trust), append(ids, said.ID)
			}
		}
	}
	trusted, err := chain.ParseTrust(strings.Join(lines, "\n"))
	if err != nil || len(ids) < len(logs) {
		t.Fatalf("%d nodes have said who they are, %v", len(ids), err)
	}
	return trusted, ids
}

// logs are those of all nodes.
func (w *world) logs() (all []string) {
	for _, n := range w.c.Nodes {
		all = append(all, n.Log)
	}
	return all
}

// arrived returns when the vault has all that a node has recorded so far: that a read
// of now is there shows it, which is the only one of its secret.
func (w *world) arrived(t *testing.T, n *cluster.Node) {
	t.Helper()
	_, ids := trust(t, n.Log)
	w.arrivals++
	name := fmt.Sprintf("arrival/%d", w.arrivals)
	w.put(t, name)
	w.at(t, w.dsn(n), func(conn *pgx.Conn) { read(t, conn, name) })
	w.super(t, func(conn *pgx.Conn) {
		cluster.Eventually(t, "the records of "+n.Name+" in the vault", func() bool {
			var there int
			err := conn.QueryRow(t.Context(), "SELECT count(*) FROM vault.audit_log WHERE node_id = $1::text::uuid AND action = 'read' AND secret_name = $2",
				ids[len(ids)-1], name).Scan(&there)
			return err == nil && there == 1
		})
	})
}

// read reads a secret that must be readable.
func read(t *testing.T, conn *pgx.Conn, name string) {
	t.Helper()
	if got, want := cluster.Text(t, conn, "SELECT vault.read_secret($1)", name), valueOf(name); got != want {
		t.Fatalf("%s: got %q, want %q", name, got, want)
	}
}

// rows are all records that the vault has.
func rows(t *testing.T, conn *pgx.Conn) (all []chain.Row) {
	t.Helper()
	found, err := conn.Query(t.Context(), `SELECT node_id::text, seq, at, coalesce(actor, ''), coalesce(session_role, ''), coalesce(host(client_ip), ''), face,
 coalesce(database, ''), action, coalesce(secret_name, ''), coalesce(version, 0), outcome, direct, coalesce(reason, ''), coalesce(change, 0), coalesce(statement, 0),
 prev_hash, hash FROM vault.audit_log ORDER BY node_id, seq`)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	for found.Next() {
		var r chain.Row
		var node, addr string
		var prev, hash []byte
		var statement int64
		err := found.Scan(&node, &r.Seq, &r.At, &r.Actor, &r.SessionRole, &addr, &r.Face, &r.Database, &r.Action, &r.Secret, &r.Version, &r.Outcome,
			&r.Direct, &r.Reason, &r.Change, &statement, &prev, &hash)
		if err != nil {
			t.Fatal(err)
		}
		if r.Node, err = chain.ParseNodeID(node); err != nil {
			t.Fatal(err)
		}
		if addr != "" {
			r.Addr = netip.MustParseAddr(addr)
		}
		r.Prev, r.Hash, r.Statement = chain.Hash(prev), chain.Hash(hash), uint64(statement)
		all = append(all, r)
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// heads are all that the vault has.
func heads(t *testing.T, conn *pgx.Conn) (all []chain.Head) {
	t.Helper()
	found, err := conn.Query(t.Context(), `SELECT node_id::text, seq, hash, at, public_key, signature FROM vault.audit_heads
 UNION ALL SELECT node_id::text, seq, hash, at, public_key, signature FROM vault.audit_anchors`)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	for found.Next() {
		var h chain.Head
		var node string
		var hash, key, signature []byte
		var at time.Time
		if err := found.Scan(&node, &h.Seq, &hash, &at, &key, &signature); err != nil {
			t.Fatal(err)
		}
		if h.Node, err = chain.ParseNodeID(node); err != nil {
			t.Fatal(err)
		}
		h.At = at.UTC()
		h.Hash, h.Key, h.Signature = chain.Hash(hash), [32]byte(key), [64]byte(signature)
		all = append(all, h)
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// verify returns what the vault has, and what is wrong with it.
func (w *world) verify(t *testing.T, logs ...string) (all []chain.Row, report *chain.Report) {
	t.Helper()
	trusted, _ := trust(t, logs...)
	var known []chain.Head
	w.super(t, func(conn *pgx.Conn) { all, known = rows(t, conn), heads(t, conn) })
	report, err := chain.Verify(t.Context(), each(all), trusted, known)
	if err != nil {
		t.Fatal(err)
	}
	return all, report
}

func each(all []chain.Row) iter.Seq2[chain.Row, error] {
	return func(yield func(chain.Row, error) bool) {
		for _, r := range all {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// sound returns what the vault has, which must be whole chains.
func (w *world) sound(t *testing.T, logs ...string) []chain.Row {
	t.Helper()
	all, report := w.verify(t, logs...)
	for _, f := range report.Findings {
		t.Errorf("found: %v", f)
	}
	for _, n := range report.Nodes {
		if n.First != 1 || n.Proven != n.Last {
			t.Errorf("node %v: records %d to %d, proven to %d", n.Node, n.First, n.Last, n.Proven)
		}
	}
	t.Logf("%d records, %v", len(all), report.Notes)
	return all
}
