// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package audit

import (
	"fmt"
	"os"
	"regexp"
	"testing"

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

// crash is where Go's runtime begins to say why a process ends.
var crash = regexp.MustCompile(`(?m)^(panic|fatal error|SIG[A-Z]+|runtime: |unexpected fault)`)

func newWorld(t *testing.T, spec cluster.Spec) *world {
	t.Helper()
	w := &world{c: cluster.Start(t, spec)}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range w.c.Nodes {
				log, err := os.ReadFile(n.Log)
				if at := crash.FindIndex(log); at != nil { // all that follows is long
					t.Logf("%s crashed:\n%s", n.Name, log[at[0]:min(len(log), at[0]+8<<10)])
				}
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

// logs are those of all nodes.
func (w *world) logs() (all []string) {
	for _, n := range w.c.Nodes {
		all = append(all, n.Log)
	}
	return all
}

// arrived returns when the vault has all that nodes have recorded so far: that a read
// of now is there shows it, which is the node's only one of its secret.
func (w *world) arrived(t *testing.T, nodes ...*cluster.Node) {
	t.Helper()
	w.arrivals++
	name := fmt.Sprintf("arrival/%d", w.arrivals)
	w.put(t, name) // which the primary's node records before it reads
	w.arrivedBy(t, name, nodes...)
}

// shipped is arrived for one node where no standby follows.
func (w *world) shipped(t *testing.T, n *cluster.Node) {
	t.Helper()
	w.arrivals++
	name := fmt.Sprintf("arrival/%d", w.arrivals)
	w.at(t, w.dsn(n), func(conn *pgx.Conn) { cluster.Exec(t, conn, "SELECT vault.put_secret($1, $2)", name, valueOf(name)) })
	w.arrivedBy(t, name, n)
}

func (w *world) arrivedBy(t *testing.T, name string, nodes ...*cluster.Node) {
	t.Helper()
	for _, n := range nodes {
		w.at(t, w.dsn(n), func(conn *pgx.Conn) { read(t, conn, name) })
	}
	w.super(t, func(conn *pgx.Conn) {
		for _, n := range nodes {
			_, ids := cluster.Trust(t, n.Log)
			cluster.Eventually(t, "the records of "+n.Name+" in the vault", func() bool {
				var there int
				err := conn.QueryRow(t.Context(), "SELECT count(*) FROM vault.audit_log WHERE node_id = $1::text::uuid AND action = 'read' AND secret_name = $2",
					ids[len(ids)-1], name).Scan(&there)
				return err == nil && there == 1
			})
		}
	})
}

// read reads a secret that must be readable.
func read(t *testing.T, conn *pgx.Conn, name string) {
	t.Helper()
	if got, want := cluster.Text(t, conn, "SELECT vault.read_secret($1)", name), valueOf(name); got != want {
		t.Fatalf("%s: got %q, want %q", name, got, want)
	}
}

// sound returns what the vault has, which must be whole chains and a record of each
// change.
func (w *world) sound(t *testing.T, logs ...string) *cluster.Audit {
	t.Helper()
	return w.soundAfter(t, nil, logs...)
}

// soundAfter is sound behind a load whose nodes were killed: what became of a change may
// be recorded nowhere, if it was not told to its client either.
func (w *world) soundAfter(t *testing.T, l *load, logs ...string) *cluster.Audit {
	t.Helper()
	a := w.c.Audit(t, logs...)
	excuses := l.untold()
	for _, f := range a.Findings {
		c := a.Changes[f.Change]
		of := did{chain.FaceSQL, chain.Action(c.Action), c.Subject}
		if f.Kind == chain.NotThroughNode && toldAfter(&c) && excuses[of] > 0 {
			excuses[of]--
			t.Logf("not told to anybody: %v", f)
			continue
		}
		t.Errorf("found: %v", f)
	}
	for _, n := range a.Nodes {
		if n.First != 1 || n.Proven != n.Last {
			t.Errorf("node %v: records %d to %d, proven to %d", n.Node, n.First, n.Last, n.Proven)
		}
	}
	if a.Compared == 0 {
		t.Error("no change was compared with records")
	}
	t.Logf("%d records, %d changes, %v", len(a.Rows), a.Compared, a.Notes)
	return a
}

// toldAfter reports whether a node hears of a change only when it is done.
func toldAfter(c *chain.Change) bool { return c.Version == 0 || c.Action == string(chain.ActionDelete) }
