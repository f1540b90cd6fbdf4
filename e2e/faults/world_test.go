// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package faults

import (
	"crypto/rand"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/history"
)

// routed: every node takes writes, and brings them to the primary. Without it a
// standby's node refuses them (25006), and clients try the other nodes.
var routed = flag.Bool("routed", true, "nodes beside standbys take writes")

// A world is a cluster with clients at work, and what is known of the faults.
type world struct {
	c           *cluster.Cluster
	manager     cluster.Manager
	synchronous bool
	clients     int
	readers     int // of those, how many only read
	pace        time.Duration
	user        string
	token       string // for REST, by the user's name, which the audit has

	// Of the present work.
	prefix   string
	log      *history.Log
	path     string
	run      *history.Run
	lost     []history.Lost
	cut      []history.Outage
	outages  []outage
	promoted []promotion
}

// roles are what the clients' own may change to.
var roles = []string{"blue", "red"}

// newWorld adds users to a cluster of three.
func newWorld(t *testing.T, c *cluster.Cluster, manager cluster.Manager, synchronous bool) *world {
	t.Helper()
	w := &world{c: c, manager: manager, synchronous: synchronous, clients: 12, pace: 20 * time.Millisecond}
	w.user = c.AddUser(t, "clients", "*", "*")
	admin := c.Connect(t, w.superDSN(c.PrimaryNode()))
	for _, role := range roles {
		cluster.Exec(t, admin, "CREATE ROLE "+role)
		cluster.Exec(t, admin, "GRANT "+role+" TO "+w.user)
		cluster.Exec(t, admin, "SELECT vault.grant_access($1::regrole, '*', '*')", role)
	}
	w.token = "hvt_" + rand.Text()
	cluster.Exec(t, admin, "WITH r AS (INSERT INTO vault.roles (name) VALUES ('clients') RETURNING id) INSERT INTO vault.role_permissions SELECT id, '*', '*' FROM r")
	cluster.Exec(t, admin, "SELECT vault.add_token($1, 'clients', sha256($2::text::bytea))", w.user, w.token)
	cluster.Exec(t, admin, "CREATE TABLE public.beats (at timestamptz NOT NULL DEFAULT now())")
	for i, n := range c.Nodes {
		if n != c.PrimaryNode() {
			c.WaitReplayed(t, i)
		}
	}
	return w
}

func (w *world) index(n *cluster.Node) int { return slices.Index(w.c.Nodes, n) }

func (w *world) superDSN(n *cluster.Node) string { return w.c.SuperDSN(w.index(n)) }

// nodes are where clients connect. Without routing, half of them try to write at
// their own node only, and the others wherever it works.
func (w *world) nodes() []history.Node {
	var readers, writers []history.Node
	for i, n := range w.c.Nodes {
		node := history.Node{Name: n.Name, DSN: w.c.DSN(i, w.user), REST: n.REST, Token: w.token}
		readers = append(readers, node)
		node.Writes = true
		writers = append(writers, node)
	}
	if *routed {
		return writers
	}
	return append(readers, writers...)
}

// begin sets clients to work on secrets of their own. They end with the test, if
// not judged before.
func (w *world) begin(t *testing.T, prefix string, seed uint64) {
	t.Helper()
	w.prefix, w.lost, w.cut, w.outages, w.promoted = prefix, nil, nil, nil, nil
	w.path, w.log = keptLog(t, prefix)
	w.run = history.Start(t.Context(), history.Spec{
		Nodes: w.nodes(), Clients: w.clients, Readers: w.readers, Names: 2 * (w.clients - w.readers), Prefix: prefix, Roles: roles, Pace: w.pace, Lifetime: 200, Log: w.log, Seed: seed, Say: t.Logf,
	})
	t.Cleanup(w.run.Stop)
	w.working(t)
}

// outDir is for what is looked at after a test that failed.
func outDir(t *testing.T) string {
	t.Helper()
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "e2e", "out", "faults")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// keepLogsOf keeps what a cluster has said if the test fails.
func keepLogsOf(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			keepLogs(t, c)
		}
	})
}

// keepLogs copies what servers, nodes and managers have said.
func keepLogs(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	dir := outDir(t)
	for _, path := range logs(t, c) {
		name := strings.ReplaceAll(strings.TrimPrefix(path, c.Dir()+"/"), "/", "-")
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			t.Error(err)
		}
	}
	t.Logf("logs are in %s", dir)
}

// logs are the paths of all logs of a cluster: servers', nodes', managers'.
func logs(t *testing.T, c *cluster.Cluster) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.log", "*/*.log"} {
		paths, err := filepath.Glob(filepath.Join(c.Dir(), pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, paths...)
	}
	return all
}

// keptLog is a record that is still there after the test.
func keptLog(t *testing.T, name string) (string, *history.Log) {
	t.Helper()
	path := filepath.Join(outDir(t), name+".jsonl")
	log, err := history.CreateLog(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, log
}

// working waits until clients write, and read at each node, from now on.
func (w *world) working(t *testing.T) {
	t.Helper()
	w.writing(t)
	for _, n := range w.c.Nodes {
		w.reading(t, n)
	}
}

const some = 10 // operations that show that something works

// writing waits for acknowledged writes that begin now or later. With routing
// that is at each node but those given.
func (w *world) writing(t *testing.T, but ...*cluster.Node) {
	t.Helper()
	if !*routed {
		w.wait(t, "writes", func(op *history.Op) bool { return op.Kind == history.Put && op.Outcome == history.OK })
		return
	}
	for _, n := range w.c.Nodes {
		if !slices.Contains(but, n) {
			w.wait(t, "writes at "+n.Name, putAt(n, history.OK))
		}
	}
}

func putAt(n *cluster.Node, outcome history.Outcome) func(*history.Op) bool {
	return func(op *history.Op) bool { return op.Node == n.Name && op.Kind == history.Put && op.Outcome == outcome }
}

// reading waits for reads at a node that begin now or later.
func (w *world) reading(t *testing.T, n *cluster.Node) {
	t.Helper()
	w.wait(t, "reads at "+n.Name, func(op *history.Op) bool {
		return op.Kind == history.Read && op.Outcome == history.OK && op.Node == n.Name
	})
}

// wait waits for operations of a kind that begin now or later.
func (w *world) wait(t *testing.T, what string, wanted func(*history.Op) bool) {
	t.Helper()
	now, from, seen := w.log.Now(), 0, 0
	eventually(t, what, func() bool {
		ops := w.log.After(from)
		from += len(ops)
		for i := range ops {
			if ops[i].Begin >= now && wanted(&ops[i]) {
				seen++
			}
		}
		return seen >= some
	})
}

// eventually waits as long as a failover may take, on a slow machine, too.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	const most = 90 * time.Second
	deadline := time.NewTimer(most)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("%s: not within %v", what, most)
		case <-t.Context().Done():
			t.Fatal("stopped")
		}
	}
}

// judge ends the work when all nodes are healthy again, and judges its record.
func (w *world) judge(t *testing.T) *history.Report {
	t.Helper()
	w.working(t)
	w.c.WaitReady(t)
	w.run.Stop()
	final, err := history.ReadFinal(t.Context(), w.c.DSN(w.index(w.c.PrimaryNode()), w.c.Superuser), w.prefix)
	if err != nil {
		t.Fatal(err)
	}
	rules := w.run.Rules()
	rules.Lost, rules.Cut = w.lost, w.cut
	report := w.run.Check(rules, final)
	t.Log(report)
	if err := w.log.Close(); err != nil {
		t.Error(err)
	}
	if report.Err() != nil {
		if err := os.WriteFile(w.path+".txt", []byte(report.String()), 0o600); err != nil {
			t.Error(err)
		}
		t.Errorf("promises are broken; to judge it again: go test ./e2e/history -run TestReplay -v -replay %s", w.path)
	}
	w.report(t)
	w.fenced(t)
	w.sealed(t)
	return report
}
