// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package history

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestRun lets clients work on a cluster: they read and write through both nodes,
// and their sessions are at the primary for as short as can be.
func TestRun(t *testing.T) {
	c := cluster.Start(t, cluster.Spec{Standbys: 1, NodeEnv: map[string]string{"VAULT_MOVE_BACK_AFTER": "1ms"}})
	user := addUsers(t, c)
	t.Run("calm", func(t *testing.T) { calm(t, work(t, c, user, "calm")) })
	t.Run("restarts", func(t *testing.T) { restarts(t, work(t, c, user, "restarts")) })
}

// calm: nothing fails, so no outcome is unknown.
func calm(t *testing.T, w *working) {
	t.Helper()
	cluster.Eventually(t, "enough of each kind", func() bool { return enough(w.run.Ops()) })
	for _, op := range w.judged(t) {
		if op.Outcome == Unknown {
			t.Fatalf("nothing has failed, but: %s", &op)
		}
	}
}

// restarts crashes the primary's node, then its server. That loses no commit:
// the server has its log on disk.
func restarts(t *testing.T, w *working) {
	t.Helper()
	w.moreWrites(t)
	n := w.c.Nodes[0]
	for _, crash := range []struct {
		what     string
		down, up func(context.Context) error
	}{
		{"the node is killed", n.KillNode, n.StartNode},
		{"the server is killed", n.KillServer, n.StartServer},
		{"the server is stopped", n.StopServer, n.StartServer},
	} {
		if err := crash.down(t.Context()); err != nil {
			t.Fatalf("%s: %v", crash.what, err)
		}
		if err := crash.up(t.Context()); err != nil {
			t.Fatalf("%s, and started again: %v", crash.what, err)
		}
		w.moreWrites(t)
	}
	if !slices.ContainsFunc(w.judged(t), func(op Op) bool { return op.Outcome == Unknown }) {
		t.Error("no operation was lost with its connection")
	}
}

// roles are what the clients' own may change to.
var roles = []string{"blue", "red"}

// addUsers makes the clients' role, which it returns, and the others.
func addUsers(t *testing.T, c *cluster.Cluster) string {
	t.Helper()
	user := c.AddUser(t, "clients", "*", "*")
	admin := c.Connect(t, c.SuperDSN(0))
	for _, role := range roles {
		cluster.Exec(t, admin, "CREATE ROLE "+role)
		cluster.Exec(t, admin, "GRANT "+role+" TO "+user)
		cluster.Exec(t, admin, "SELECT vault.grant_access($1::regrole, '*', '*')", role)
	}
	c.WaitReplayed(t, 1)
	return user
}

// A working is a run with its cluster and its record.
type working struct {
	c      *cluster.Cluster
	run    *Run
	log    *Log
	path   string
	prefix string
}

// work starts clients.
func work(t *testing.T, c *cluster.Cluster, user, prefix string) *working {
	t.Helper()
	w := &working{c: c, prefix: prefix}
	w.path, w.log = keptLog(t, prefix)
	w.run = Start(t.Context(), Spec{
		Nodes:   []Node{{Name: c.Nodes[0].Name, DSN: c.DSN(0, user), Writes: true}, {Name: c.Nodes[1].Name, DSN: c.DSN(1, user), Writes: true}},
		Clients: 8, Prefix: prefix, Roles: roles, Pace: 2 * time.Millisecond, Lifetime: 40, Log: w.log, Say: t.Logf,
	})
	t.Cleanup(w.run.Stop)
	return w
}

// keptLog is a record that is still there after the test.
func keptLog(t *testing.T, name string) (string, *Log) {
	t.Helper()
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "e2e", "out", "history")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name+".jsonl")
	log, err := CreateLog(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, log
}

// moreWrites waits until clients write, again.
func (w *working) moreWrites(t *testing.T) {
	t.Helper()
	before := done(w.run.Ops())[Put]
	cluster.Eventually(t, "more writes", func() bool { return done(w.run.Ops())[Put] > before+100 })
}

// judged ends the run, judges its record and returns it.
func (w *working) judged(t *testing.T) []Op {
	t.Helper()
	w.run.Stop()
	final, err := ReadFinal(t.Context(), w.c.DSN(0, w.c.Superuser), w.prefix)
	if err != nil {
		t.Fatal(err)
	}
	report := w.run.Check(w.run.Rules(), final)
	t.Log(report)
	if err := w.log.Close(); err != nil {
		t.Error(err)
	}
	if report.Err() != nil {
		t.Errorf("promises are broken; to judge it again: go test ./e2e/history -run TestReplay -v -replay %s", w.path)
	}
	return w.run.Ops()
}

// enough: each kind was done, and sessions have come and gone.
func enough(ops []Op) bool {
	n := done(ops)
	return n[Read] >= 1500 && n[Put] >= 250 && n[Set] >= 100 && n[Update] >= 40 && n[Delete] >= 10 && n[Connect] >= 30
}

// done counts what was acknowledged.
func done(ops []Op) map[Kind]int {
	counts := map[Kind]int{}
	for _, op := range ops {
		if op.Outcome == OK {
			counts[op.Kind]++
		}
	}
	return counts
}
