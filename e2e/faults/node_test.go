// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package faults

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/history"
)

// nodeFaults leave all servers alone.
var nodeFaults = []fault{
	{"kill node", eachNode(killNode)},
	{"freeze node", eachNode(freezeNode)},
	{"restart node", eachNode(restartNode)},
}

// eachNode does something at the primary's node, and at a standby's.
func eachNode(do func(*testing.T, *world, *cluster.Node)) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		t.Helper()
		primary := w.c.PrimaryNode()
		do(t, w, primary)
		do(t, w, w.c.Others(primary)[0])
	}
}

// killNode: what was acknowledged is there, and other nodes do not notice.
func killNode(t *testing.T, w *world, n *cluster.Node) {
	t.Helper()
	if err := n.KillNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.othersWork(t, n)
	if err := n.StartNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.working(t)
}

// restartNode does so in order.
func restartNode(t *testing.T, w *world, n *cluster.Node) {
	t.Helper()
	if err := n.StopNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.othersWork(t, n)
	if err := n.StartNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.working(t)
}

// freezeNode: it stands still while the others work, and goes on where it was.
func freezeNode(t *testing.T, w *world, n *cluster.Node) {
	t.Helper()
	frozen := history.Outage{Node: n.Name, From: w.log.Now()}
	n.Freeze(t)
	w.othersWork(t, n)
	n.Thaw(t)
	frozen.To = w.log.Now()
	w.cut = append(w.cut, frozen)
	w.working(t)
}

// othersWork waits until clients read at the other nodes.
func (w *world) othersWork(t *testing.T, but *cluster.Node) {
	t.Helper()
	for _, n := range w.c.Others(but) {
		w.reading(t, n)
	}
}
