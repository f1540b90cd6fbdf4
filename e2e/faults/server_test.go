// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package faults

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/history"
)

// serverFaults leave the roles as they are.
var serverFaults = []fault{
	{"full disk", fullDisk},
	{"paused replay", pausedReplay},
	{"freeze standby", freezeStandby},
}

// fullDisk: the primary has no room left. Writes fail, each with an error; reads go
// on; and with room again, writes do, without a restart of any node.
func fullDisk(t *testing.T, w *world) {
	t.Helper()
	const room = 64 << 20 // less than the log would like, more than it needs here
	primary := w.c.PrimaryNode()
	disk := primary.SmallDisk(t, room)
	w.whole(t)
	w.working(t)
	disk.Fill(t)
	w.wait(t, "writes that fail for want of room", func(op *history.Op) bool {
		const diskFull = "53100"
		return op.Outcome == history.Failed && op.SQLSTATE == diskFull
	})
	for _, n := range w.c.Nodes {
		w.reading(t, n)
	}
	disk.Free(t)
	w.working(t)
	primary.LargeDisk(t, disk)
	w.whole(t)
}

// pausedReplay: a standby does not show what it has. Its sessions never see a
// state before that which they know.
func pausedReplay(t *testing.T, w *world) {
	t.Helper()
	n := w.c.Others(w.c.PrimaryNode())[0]
	conn := w.c.Connect(t, w.superDSN(n))
	cluster.Exec(t, conn, "SELECT pg_catalog.pg_wal_replay_pause()")
	eventually(t, "replay is paused", func() bool {
		return cluster.Text(t, conn, "SELECT pg_catalog.pg_get_wal_replay_pause_state()") == "paused"
	})
	for range 3 {
		w.working(t)
	}
	cluster.Exec(t, conn, "SELECT pg_catalog.pg_wal_replay_resume()")
	w.whole(t)
}

// crash: a server is killed and started again as what it was.
func crash(t *testing.T, w *world) {
	t.Helper()
	primary := w.c.PrimaryNode()
	for _, n := range []*cluster.Node{primary, w.c.Others(primary)[0]} {
		w.outage(t, "crash of "+n.Name+"'s server", func() {
			if err := n.KillServer(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.othersWork(t, n)
			if err := n.StartServer(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
	w.whole(t)
}

// freezeStandby: a standby's server stands still, and goes on later.
func freezeStandby(t *testing.T, w *world) {
	t.Helper()
	n := w.c.Others(w.c.PrimaryNode())[0]
	frozen := history.Outage{Node: n.Name, From: w.log.Now()}
	n.FreezeServer(t)
	w.writing(t, n)
	w.othersWork(t, n)
	n.ThawServer(t)
	frozen.To = w.log.Now()
	w.cut = append(w.cut, frozen)
	w.whole(t)
}
