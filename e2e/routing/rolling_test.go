// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package routing

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestRollingRestart: one node after the other is stopped in order and started
// again while clients work at each. A client that connects again when it is told
// so between two transactions, anywhere, loses none.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Spec{Standbys: 2, NodeEnv: map[string]string{"VAULT_DRAIN_SECS": "20"}})
	super := c.Connect(t, c.SuperDSN(0))
	cluster.Exec(t, super, "CREATE TABLE public.done (who int, n int)")
	cluster.Exec(t, super, "GRANT ALL ON public.done TO PUBLIC")
	for i := range c.Nodes {
		c.WaitReplayed(t, i)
	}
	const perNode = 4
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	workers := make([]*worker, perNode*len(c.Nodes))
	for i := range workers {
		w := &worker{c: c, id: i, node: i % len(c.Nodes)}
		workers[i] = w
		wg.Go(func() { w.err = w.work(ctx) })
	}
	defer wg.Wait()
	defer stop()
	// Each has done something with a session that began after the last restart.
	progress := func() {
		before := make([]int64, len(workers))
		for i, w := range workers {
			before[i] = w.done.Load()
		}
		for i, w := range workers {
			cluster.Eventually(t, fmt.Sprintf("worker %d at work", i), func() bool { return w.done.Load() > before[i]+2 || w.failed.Load() })
		}
	}
	progress()
	for _, n := range c.Nodes {
		if err := n.StopNode(t.Context()); err != nil {
			t.Fatal(err)
		}
		progress()
		if err := n.StartNode(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.WaitReady(t)
		progress()
	}
	stop()
	wg.Wait()
	var want, moved int64
	for i, w := range workers {
		if w.err != nil {
			t.Errorf("worker %d: %v", i, w.err)
		}
		want += w.done.Load()
		moved += w.told.Load()
	}
	var got int64
	if err := super.QueryRow(t.Context(), "SELECT count(*) FROM public.done").Scan(&got); err != nil || got != want {
		t.Errorf("%d transactions are there, %v; %d were acknowledged", got, err, want)
	}
	if moved < int64(len(workers)) {
		t.Errorf("sessions were told %d times that their node ends, want each at least once", moved)
	}
}

// A worker does one transaction after the other.
type worker struct {
	c          *cluster.Cluster
	id, node   int
	done, told atomic.Int64
	failed     atomic.Bool
	err        error
}

// work ends with ctx, or the first error that a client could not see coming.
func (w *worker) work(ctx context.Context) (err error) {
	defer func() { w.failed.Store(err != nil) }()
	for ctx.Err() == nil {
		conn, err := pgx.Connect(ctx, w.c.DSN(w.node, w.c.User))
		if err != nil { // the node ends, or is not there: the next one is
			w.node = (w.node + 1) % len(w.c.Nodes)
			continue
		}
		for err == nil && ctx.Err() == nil {
			err = w.transaction(context.WithoutCancel(ctx), conn)
		}
		_ = conn.Close(context.WithoutCancel(ctx)) // it has told all it had to
		if err != nil && !errors.Is(err, errTold) {
			return err
		}
	}
	return nil
}

var errTold = errors.New("the node ends")

const patience = 30 * time.Second

func (w *worker) transaction(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tx, err := conn.Begin(ctx)
	if pg := new(pgconn.PgError); errors.As(err, &pg) && pg.Code == "57P01" {
		w.told.Add(1)
		return errTold
	}
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	n := w.done.Load()
	if _, err := tx.Exec(ctx, "INSERT INTO public.done VALUES ($1, $2)", w.id, n); err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	name, value := fmt.Sprintf("rolling/%d", w.id), fmt.Sprint(n)
	if _, err := tx.Exec(ctx, "SELECT vault.put_secret($1, $2)", name, value); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	var got string
	if err := tx.QueryRow(ctx, "SELECT vault.read_secret($1)", name).Scan(&got); err != nil || got != value {
		return fmt.Errorf("read %q, want %q: %w", got, value, err)
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	w.done.Add(1)
	return nil
}
