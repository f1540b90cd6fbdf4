// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package pgx

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

func (at node) cancellation(t *testing.T) {
	at.eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
		watcher := shared.Connect(t, shared.SuperDSN(0))
		number(t, conn, "SELECT vault.put_secret($1, 'v')", dir+"a")
		cluster.Exec(t, conn, "SET application_name = '"+dir+"'") // it is found by it, wherever it runs
		// By a cancel request: the session goes on.
		cancelled := func(sql, event string, args ...any) {
			t.Helper()
			done := make(chan error, 1)
			go func() { _, err := conn.Exec(t.Context(), sql, args...); done <- err }()
			cluster.Eventually(t, "a backend that waits", func() bool {
				return number(t, watcher, "SELECT count(*) FROM activity WHERE application_name = $1 AND wait_event_type || '/' || wait_event ~ $2", dir, event) == 1
			})
			if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := <-done; state(err) != "57014" {
				t.Errorf("%s: got %v, want 57014", sql, err)
			}
		}
		cancelled("SELECT pg_sleep(600)", "PgSleep")
		holder, err := at.connect(t).Begin(t.Context())
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
		cluster.Eventually(t, "a backend that sleeps", func() bool {
			return number(t, watcher, "SELECT count(*) FROM activity WHERE application_name = $1 AND wait_event = 'PgSleep'", dir) == 1
		})
		cancel()
		if err := <-done; err == nil {
			t.Error("a cancelled context: got no error")
		}
		cluster.Eventually(t, "the backend's end", func() bool {
			return number(t, watcher, "SELECT count(*) FROM activity WHERE application_name = $1", dir) == 0
		})
	})
}

func (at node) notifications(t *testing.T) {
	at.eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
		cluster.Exec(t, conn, "LISTEN pgx_channel")
		other := at.connect(t)
		pid := number(t, other, "SELECT pg_backend_pid() FROM pg_notify('pgx_channel', $1)", dir) // not what other knows as its own: it has moved
		n, err := conn.WaitForNotification(t.Context())
		if err != nil || n.Payload != dir || int(n.PID) != pid {
			t.Errorf("got %v, %v, want %s from %d", n, err, dir, pid)
		}
		cluster.Exec(t, conn, "NOTIFY pgx_channel, 'mine'")
		if n, err := conn.WaitForNotification(t.Context()); err != nil || n.PID != conn.PgConn().PID() {
			t.Errorf("got %v, %v, want one of my own", n, err)
		}
	})
}
