// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package faults

import (
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/history"
)

// networkFaults are between a standby's machine and the primary's.
var networkFaults = []fault{
	{"cut node", breakNode(cut)},
	{"stall node", breakNode(stall)},
	{"drop node", breakNode(drop)},
	{"slow node", slowNode},
	{"cut replication", breakReplication(cut)},
	{"drop replication", breakReplication(drop)},
	{"lag", lag},
}

func cut(t *testing.T, l *cluster.Link) {
	t.Helper()
	l.Cut()
}

func stall(t *testing.T, l *cluster.Link) {
	t.Helper()
	l.Stall()
}

func drop(t *testing.T, l *cluster.Link) {
	t.Helper()
	if err := l.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func heal(t *testing.T, l *cluster.Link) {
	t.Helper()
	if err := l.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// breakNode: a standby's node cannot reach the primary's server. It goes on with
// reads, all others with everything; its writes fail instead of hanging.
func breakNode(how func(*testing.T, *cluster.Link)) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		t.Helper()
		primary := w.c.PrimaryNode()
		n := w.c.Others(primary)[0]
		link := w.c.Link(t, cluster.LegNode, n, primary)
		how(t, link)
		w.reading(t, n)
		w.wait(t, "writes at the primary's node", putAt(primary, history.OK))
		if *routed {
			w.wait(t, "writes that fail at "+n.Name, func(op *history.Op) bool {
				return op.Node == n.Name && op.Kind == history.Put && op.Outcome != history.OK
			})
		}
		heal(t, link)
		w.working(t)
	}
}

// slowNode: the way is long. All goes on.
func slowNode(t *testing.T, w *world) {
	t.Helper()
	primary := w.c.PrimaryNode()
	n := w.c.Others(primary)[0]
	link := w.c.Link(t, cluster.LegNode, n, primary)
	link.Slow(20*time.Millisecond, 0)
	w.working(t)
	heal(t, link)
	w.working(t)
}

// breakReplication: one standby gets nothing. With another one there, writes go on
// even if they wait for a standby.
func breakReplication(how func(*testing.T, *cluster.Link)) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		t.Helper()
		primary := w.c.PrimaryNode()
		n := w.c.Others(primary)[0]
		link := w.c.Link(t, cluster.LegReplication, n, primary)
		how(t, link)
		w.working(t)
		heal(t, link)
		w.whole(t)
	}
}

// lag: each standby is behind. A session reads what it has written all the same.
func lag(t *testing.T, w *world) {
	t.Helper()
	primary := w.c.PrimaryNode()
	var links []*cluster.Link
	for _, n := range w.c.Others(primary) {
		link := w.c.Link(t, cluster.LegReplication, n, primary)
		link.Slow(20*time.Millisecond, 0)
		links = append(links, link)
	}
	w.working(t)
	for _, link := range links {
		heal(t, link)
	}
	w.whole(t)
}
