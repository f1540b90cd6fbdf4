// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package faults

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// patroniFaults are those that only Patroni copes with.
var patroniFaults = []fault{
	{"kill server", killServer},
	{"cut store", cutStore},
}

func patroniWorld(t *testing.T, synchronous bool, settings map[string]string) *world {
	t.Helper()
	c := cluster.Start(t, cluster.Spec{Standbys: 2, Breakable: true, Settings: settings})
	keepLogsOf(t, c)
	return newWorld(t, c, cluster.StartPatroni(t, c, synchronous), synchronous)
}

// killServer: Patroni is left, and starts the server again or has another one take
// over.
func killServer(t *testing.T, w *world) {
	t.Helper()
	p := patroni(t, w)
	old := w.c.PrimaryNode()
	w.outage(t, "the primary's server is killed", func() {
		p.KillServer(t, old)
		p.Settle(t)
	})
	if w.c.PrimaryNode() != old {
		w.know(t, w.c.PrimaryNode())
	}
	w.whole(t)
}

// cutStore: the primary cannot reach etcd, though its clients reach it. It steps
// down before its lease ends, and a standby takes over.
func cutStore(t *testing.T, w *world) {
	t.Helper()
	p := patroni(t, w)
	old := w.c.PrimaryNode()
	w.outage(t, "the primary is cut off from etcd", func() {
		drop(t, p.Stores[old])
		w.failover(t)
	}, old)
	heal(t, p.Stores[old])
	p.Standby(t, old)
	w.whole(t)
}

func patroni(t *testing.T, w *world) *cluster.Patroni {
	t.Helper()
	p, ok := w.manager.(*cluster.Patroni)
	if !ok {
		t.Fatal("not a cluster of Patroni's")
	}
	return p
}
