// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// backendMemory is what an idle backend of PostgreSQL's takes, measured and
	// rounded up; spareMemory is left to everybody else.
	backendMemory = 3 << 20
	spareMemory   = 4 << 30
	kilo          = 1000
)

// measureIdle opens sessions that do something and then nothing, and reads what
// each has added to the proxy's resident memory. The server is one of its own:
// one that may have thousands of backends is not what the other rows want.
func measureIdle(ctx context.Context, _ *world, o *options) ([]line, error) {
	left, err := available()
	if err != nil {
		return nil, err
	}
	n := min(o.sessions, int((left-spareMemory)/backendMemory))
	if n < 100 {
		return nil, fmt.Errorf("memory for %d sessions only", n)
	}
	w, err := startWorld(ctx, map[string]string{"max_connections": fmt.Sprint(n + 100), "shared_buffers": "32MB", "autovacuum": "off"})
	if err != nil {
		return nil, err
	}
	defer w.stop()
	ours, atOnce, err := w.idle(ctx, w.node, n, o.settle)
	if err != nil {
		return nil, err
	}
	peer, _, err := w.idle(ctx, w.pgbouncer, n, 0)
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("%d idle sessions after traffic", n)
	l := line{
		Row: what, What: "resident KB a session", PeerName: w.pgbouncer.name, Node: ours, Peer: peer,
		Ratio: ours, goal: goalIdle, absolute: true, Others: []other{{"at once", atOnce}},
	}
	return []line{l}, nil
}

// idle is what a session adds to a proxy's memory: at once after the traffic,
// and when all has been quiet for a while (Go collects garbage every two
// minutes when nothing is allocated).
func (w *world) idle(ctx context.Context, t target, n int, settle time.Duration) (settled, atOnce float64, err error) {
	each := func() (float64, error) {
		rss, err := resident(t.pid)
		return float64(rss), err
	}
	first, err := w.sessions(ctx, t, 50) // whatever is made once has been made
	if err != nil {
		return 0, 0, err
	}
	defer hangUp(first)
	before, err := each()
	if err != nil {
		return 0, 0, err
	}
	conns, err := w.sessions(ctx, t, n-len(first))
	defer hangUp(conns)
	if err != nil {
		return 0, 0, err
	}
	perSession := func() (float64, error) {
		now, err := each()
		return (now - before) / float64(len(conns)) / kilo, err
	}
	if atOnce, err = perSession(); err != nil {
		return 0, 0, err
	}
	select {
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	case <-time.After(settle):
	}
	settled, err = perSession()
	return settled, atOnce, err
}

// sessions opens n sessions, of which each runs a simple and a prepared
// statement.
func (w *world) sessions(ctx context.Context, t target, n int) ([]*pgconn.PgConn, error) {
	config, err := pgx.ParseConfig(w.dsn(t))
	if err != nil {
		return nil, err
	}
	var (
		mu    sync.Mutex
		conns []*pgconn.PgConn
		fault error
		wg    sync.WaitGroup
	)
	todo := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for range todo {
				c, err := session(ctx, config)
				mu.Lock()
				if err != nil {
					fault = err
				} else {
					conns = append(conns, c)
				}
				mu.Unlock()
			}
		})
	}
	for i := range n {
		mu.Lock()
		stop := fault != nil
		mu.Unlock()
		if stop || ctx.Err() != nil {
			break
		}
		if i > 0 && i%1000 == 0 {
			say("    %s: %d sessions", t.name, i)
		}
		todo <- struct{}{}
	}
	close(todo)
	wg.Wait()
	return conns, fault
}

func session(ctx context.Context, config *pgx.ConnConfig) (*pgconn.PgConn, error) {
	c, err := pgx.ConnectConfig(ctx, config.Copy())
	if err != nil {
		return nil, err
	}
	var one int
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement} {
		if err := c.QueryRow(ctx, "SELECT 1", mode).Scan(&one); err != nil {
			return c.PgConn(), err
		}
	}
	return c.PgConn(), nil
}

func hangUp(conns []*pgconn.PgConn) {
	for _, c := range conns {
		_ = c.Conn().Close() // nothing is waited for
	}
}
