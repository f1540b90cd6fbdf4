// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package switchover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

const (
	scale   = 10
	clients = 4 // of each way
	// pace is between two transactions of a client, pause after an error: what
	// drivers and pools do, within bounds.
	pace  = 5 * time.Millisecond
	pause = 20 * time.Millisecond
	// patience with one transaction: reaching it means that it hangs, which no
	// driver tries again.
	patience = 20 * time.Second
)

// A way is how clients reach the primary.
type way struct{ name, dsn string }

// An ack is when a transaction, by its number, was acknowledged.
type ack struct {
	n  int
	at time.Time
}

// A client does pgbench's own transaction (TPC-B-like) again and again. pgbench
// itself ends a client with its first lost connection, so this one is ours.
type client struct {
	way string
	id  string

	mu     sync.Mutex
	acked  []ack
	errors map[string]int
}

// work are the clients of all ways.
type work struct {
	ways    []way
	clients []*client
	stop    context.CancelFunc
	wg      sync.WaitGroup
}

// begin sets clients to work, and returns when each has committed.
func begin(t *testing.T, name string, ways []way) *work {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w := &work{ways: ways, stop: stop}
	t.Cleanup(w.end)
	for i, way := range ways {
		for n := range clients {
			c := &client{way: way.name, id: fmt.Sprintf("%s.%d.%d", name, i, n), errors: map[string]int{}}
			w.clients = append(w.clients, c)
			w.wg.Go(func() { c.run(ctx, way.dsn) })
		}
	}
	w.committed(t, time.Now())
	return w
}

func (w *work) end() {
	w.stop()
	w.wg.Wait()
}

// committed waits until each client has had a commit acknowledged after some time.
func (w *work) committed(t *testing.T, after time.Time) {
	t.Helper()
	for _, c := range w.clients {
		done := func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return len(c.acked) > 0 && c.acked[len(c.acked)-1].at.After(after)
		}
		for until := time.Now().Add(2 * time.Minute); !done(); wait(t.Context(), 10*time.Millisecond) {
			if time.Now().After(until) {
				w.end() // else it may be noting an error just now
				t.Fatalf("a client of %s commits no more: %v", c.way, c.errors)
			}
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (c *client) run(ctx context.Context, dsn string) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = conn.Close(ctx) // what it did was counted
		}
	}()
	for n := 0; ctx.Err() == nil; n++ {
		var err error
		if conn == nil || conn.IsClosed() {
			conn, err = connect(ctx, dsn)
		}
		if err == nil {
			err = c.transact(ctx, conn, n)
		}
		switch {
		case ctx.Err() != nil:
		case err == nil:
			c.mu.Lock()
			c.acked = append(c.acked, ack{n, time.Now()})
			c.mu.Unlock()
			wait(ctx, pace)
		default:
			c.mu.Lock()
			c.errors[class(err)]++
			c.mu.Unlock()
			wait(ctx, pause)
		}
	}
}

func connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return pgx.Connect(ctx, dsn)
}

// name is how a transaction is found again, in 22 characters.
func (c *client) name(n int) string { return fmt.Sprintf("%s.%d", c.id, n) }

func (c *client) transact(ctx context.Context, conn *pgx.Conn, n int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	aid, tid, bid, delta := rand.IntN(100_000*scale)+1, rand.IntN(10*scale)+1, rand.IntN(scale)+1, rand.IntN(10_001)-5_000
	tx, err := conn.Begin(ctx) // not BeginFunc: of a broken connection that tells only that it is closed
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }() // of one that has ended: nothing
	for _, s := range []struct {
		sql  string
		args []any
	}{
		{"UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2", []any{delta, aid}},
		{"SELECT abalance FROM pgbench_accounts WHERE aid = $1", []any{aid}},
		{"UPDATE pgbench_tellers SET tbalance = tbalance + $1 WHERE tid = $2", []any{delta, tid}},
		{"UPDATE pgbench_branches SET bbalance = bbalance + $1 WHERE bid = $2", []any{delta, bid}},
		{
			"INSERT INTO pgbench_history (tid, bid, aid, delta, mtime, filler) VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP, $5)",
			[]any{tid, bid, aid, delta, c.name(n)},
		},
	} {
		if _, err := tx.Exec(ctx, s.sql, s.args...); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

// Errors without a SQLSTATE.
const (
	refused   = "connection refused"
	closed    = "connection closed"
	noPrimary = "no primary among the hosts" // of pgx's target_session_attrs
	hangs     = "no answer"
)

// class is what a driver goes by. Of a connection that ends while a COMMIT waits
// pgx says that it was closed before.
func class(err error) string {
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg):
		return pg.Code
	case errors.Is(err, context.DeadlineExceeded):
		return hangs
	case strings.Contains(err.Error(), "read only connection"):
		return noPrimary
	case errors.Is(err, syscall.ECONNREFUSED):
		return refused
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		errors.Is(err, net.ErrClosed), errors.Is(err, pgconn.ErrConnClosed):
		return closed
	}
	return err.Error()
}

// retried reports whether drivers and their users try again after an error.
func retried(class string) bool {
	return strings.HasPrefix(class, "08") || slices.Contains([]string{"57P01", "57P02", "57P03", "25006", "40001", refused, closed, noPrimary}, class)
}

// lost looks for all that was acknowledged: how much of each way's is not there.
// Whatever was done at all was done whole.
func lost(t *testing.T, primary *pgx.Conn, w *work) map[string]int {
	t.Helper()
	rows, err := primary.Query(t.Context(), "SELECT rtrim(filler) FROM pgbench_history")
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]int{}
	for _, name := range names {
		there[name]++
	}
	lost := map[string]int{}
	for _, c := range w.clients {
		for _, a := range c.acked {
			switch there[c.name(a.n)] {
			case 0:
				lost[c.way]++
			case 1:
			default:
				t.Errorf("%s was done more than once", c.name(a.n))
			}
		}
	}
	const balances = `SELECT count(DISTINCT s)::text FROM (SELECT sum(delta) s FROM pgbench_history UNION ALL SELECT sum(abalance) FROM pgbench_accounts
		UNION ALL SELECT sum(tbalance) FROM pgbench_tellers UNION ALL SELECT sum(bbalance) FROM pgbench_branches) x`
	if got := cluster.Text(t, primary, balances); got != "1" {
		t.Errorf("%s different balances, want one", got)
	}
	return lost
}
