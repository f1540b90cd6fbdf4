// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package faults

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

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
	primary := w.c.PrimaryNode()
	disk := primary.SmallDisk(t, room, false)
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

const room = 64 << 20 // what a small disk has beside the data

// fullLog: there is no room for the primary's log either, and the server crashes.
// The other servers' nodes go on with reads, and no node needs a
// restart.
func fullLog(t *testing.T, w *world) {
	t.Helper()
	primary := w.c.PrimaryNode()
	disk := primary.SmallDisk(t, room, true)
	w.whole(t)
	w.working(t)
	disk.Fill(t)
	eventually(t, "the server's crash", func() bool { return fillLog(t, w.superDSN(primary)) })
	w.othersWork(t, primary)
	disk.Free(t)
	eventually(t, "the server is there again", func() bool {
		conn, err := pgx.Connect(t.Context(), w.superDSN(primary))
		if err == nil {
			return conn.Close(t.Context()) == nil
		}
		if !primary.ServerAlive() { // else it recovers by itself
			err = primary.StartServer(t.Context())
		}
		return err == nil
	})
	w.working(t)
	primary.LargeDisk(t, disk)
	w.whole(t)
}

// fillLog writes into the log, and tells whether that was the server's end.
func fillLog(t *testing.T, dsn string) bool {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	for err == nil {
		_, err = conn.Exec(t.Context(), "SELECT pg_catalog.pg_logical_emit_message(false, 'fill', pg_catalog.repeat('x', 1000000))")
	}
	if conn != nil {
		_ = conn.Close(t.Context()) // it is gone
	}
	var pg *pgconn.PgError
	return !errors.As(err, &pg) || pg.Severity == "FATAL" || pg.Severity == "PANIC"
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
