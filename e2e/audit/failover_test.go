// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package audit

import (
	"os"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestFailover: three nodes at work; the primary is lost with what no other server has,
// a node is killed beside it. In the end the vault has all records of all nodes, and no
// value shows in what those have written.
func TestFailover(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Spec{Standbys: 2, Settings: cluster.PlainSettings()})
	manager := cluster.Plain{Cluster: w.c}
	l := w.startLoad(t, 9)
	l.working(t)
	for range 2 {
		old := w.c.PrimaryNode()
		for _, n := range w.c.Others(old) { // what is shipped from now on is lost
			if err := n.Detach(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range w.c.Nodes { // also those that live to see it
			shipped := n.Metric(t, "hyperion_vault_audit_shipped_record")
			cluster.Eventually(t, "shipping to a server that will be lost", func() bool {
				return n.Metric(t, "hyperion_vault_audit_shipped_record") > shipped+10
			})
		}
		manager.Lose(t, old)
		if err := old.KillNode(t.Context()); err != nil {
			t.Fatal(err)
		}
		manager.Failover(t)
		manager.Rejoin(t, old)
		if err := old.StartNode(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.working(t)
	}
	manager.Switchover(t)
	l.working(t)
	l.end()
	w.arrived(t, w.c.Nodes...)
	l.compare(t, w.soundAfter(t, l, w.logs()...))
	w.noLeak(t)
	lost := 0
	for _, path := range w.logs() {
		log, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lost += strings.Count(string(log), shippedAgain)
	}
	if lost == 0 {
		t.Error("no server has lost a record: nothing was tested")
	}
}
