// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package faults

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/history"
)

// killPrimary: the primary's server is gone at once, a standby is promoted, and
// the old one comes back as a standby.
func killPrimary(t *testing.T, w *world) {
	t.Helper()
	old := w.c.PrimaryNode()
	w.outage(t, "the primary is killed", func() {
		w.manager.Lose(t, old)
		w.failover(t)
	}, old)
	w.manager.Rejoin(t, old)
	w.whole(t)
}

// switchover: the roles change in order.
func switchover(t *testing.T, w *world) {
	t.Helper()
	w.outage(t, "switchover", func() { w.know(t, w.manager.Switchover(t)) })
	w.whole(t)
}

// freezePrimary: the primary's server stands still, a standby is promoted, and the
// old one goes on as if nothing had been. It must not get a write: where it could
// acknowledge one alone, only the nodes prevent it.
func freezePrimary(t *testing.T, w *world) {
	t.Helper()
	old := w.c.PrimaryNode()
	frozen := history.Outage{Node: old.Name, From: w.log.Now()}
	w.outage(t, "the primary is frozen", func() {
		old.FreezeServer(t)
		w.failover(t)
	}, old)
	frozen.To = w.log.Now()
	w.cut = append(w.cut, frozen)
	old.ThawServer(t)
	if *routed {
		latest := w.promoted[len(w.promoted)-1].timeline
		w.wait(t, old.Name+" to write at the new primary, or to refuse sessions", func(op *history.Op) bool {
			refused := op.Kind == history.Connect && op.Node == old.Name && op.Outcome == history.Failed
			return refused || putAt(old, history.OK)(op) && op.Timeline >= latest
		})
	}
	w.manager.Rejoin(t, old)
	w.whole(t)
}
