// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package pgx

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

func cancellation(t *testing.T) {
	eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
		watcher := shared.Connect(t, shared.SuperDSN(0))
		number(t, conn, "SELECT vault.put_secret($1, 'v')", dir+"a")
		// By a cancel request: the session goes on.
		cancelled := func(sql, event string, args ...any) {
			t.Helper()
			done := make(chan error, 1)
			go func() { _, err := conn.Exec(t.Context(), sql, args...); done <- err }()
			cluster.Eventually(t, "a backend that waits", func() bool {
				return number(t, watcher, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event_type || '/' || wait_event ~ $2", conn.PgConn().PID(), event) == 1
			})
			if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := <-done; state(err) != "57014" {
				t.Errorf("%s: got %v, want 57014", sql, err)
			}
		}
		cancelled("SELECT pg_sleep(600)", "PgSleep")
		holder, err := shared.Connect(t, shared.DSN(0, shared.User)).Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		number(t, holder, "SELECT vault.put_secret($1, 'w')", dir+"a")
		cancelled("SELECT vault.put_secret($1, $2)", "Lock/", dir+"a", "x")
		if err := holder.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := number(t, conn, "SELECT vault.put_secret($1, 'y')", dir+"a"); got != 2 {
			t.Errorf("after the cancel: got version %d, want 2", got)
		}
		// By a context: pgx closes the connection, the server's end follows.
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { _, err := conn.Exec(ctx, "SELECT pg_sleep(600)"); done <- err }()
		pid := conn.PgConn().PID()
		cluster.Eventually(t, "a backend that sleeps", func() bool {
			return number(t, watcher, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'", pid) == 1
		})
		cancel()
		if err := <-done; err == nil {
			t.Error("a cancelled context: got no error")
		}
		cluster.Eventually(t, "the backend's end", func() bool {
			return number(t, watcher, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid) == 0
		})
	})
}

func notifications(t *testing.T) {
	eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
		cluster.Exec(t, conn, "LISTEN pgx_channel")
		other := shared.Connect(t, shared.DSN(0, shared.User))
		cluster.Exec(t, other, "SELECT pg_notify('pgx_channel', $1)", dir)
		n, err := conn.WaitForNotification(t.Context())
		if err != nil || n.Payload != dir || n.PID != other.PgConn().PID() {
			t.Errorf("got %v, %v, want %s from %d", n, err, dir, other.PgConn().PID())
		}
		cluster.Exec(t, conn, "NOTIFY pgx_channel, 'mine'")
		if n, err := conn.WaitForNotification(t.Context()); err != nil || n.PID != conn.PgConn().PID() {
			t.Errorf("got %v, %v, want one of my own", n, err)
		}
	})
}
