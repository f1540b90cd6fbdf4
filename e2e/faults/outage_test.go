// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package faults

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/history"
)

// An outage is the time around a fault. What a client with nothing in between
// could do in it is there to compare.
type outage struct {
	what     string
	from, to time.Duration // of the record
	bare     []time.Duration
}

// outage breaks something and waits until writes work again, but at nodes that
// stay broken.
func (w *world) outage(t *testing.T, what string, fault func(), broken ...*cluster.Node) {
	t.Helper()
	b := w.beat(t)
	o := outage{what: what, from: w.log.Now()}
	fault()
	w.writing(t, broken...)
	o.to = w.log.Now()
	b.wait(t, o.to)
	o.bare = b.end()
	w.outages = append(w.outages, o)
}

// beats writes a row as often as it can to whichever server takes it. One loop at
// each server connects again and again, as the simplest client would that knows
// which server is the next primary.
type beats struct {
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu sync.Mutex
	at []time.Duration
}

func (b *beats) add(at time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = append(b.at, at)
}

// wait returns when a row was written after some time.
func (b *beats) wait(t *testing.T, after time.Duration) {
	t.Helper()
	eventually(t, "a write without a node", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.at) > 0 && b.at[len(b.at)-1] > after
	})
}

func (b *beats) end() []time.Duration {
	b.stop()
	b.wg.Wait()
	return b.at
}

const beatPause = 10 * time.Millisecond

func (w *world) beat(t *testing.T) *beats {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	b := &beats{stop: stop}
	log := w.log
	for i := range w.c.Nodes {
		dsn := w.c.SuperDSN(i)
		b.wg.Go(func() {
			for ctx.Err() == nil {
				beatAt(ctx, dsn, func() { b.add(log.Now()) })
				pause(ctx, beatPause)
			}
		})
	}
	t.Cleanup(func() { b.end() })
	return b
}

// beatAt writes to one server until that fails, and tells each time.
func beatAt(ctx context.Context, dsn string, wrote func()) {
	const patience = time.Second
	try := func(f func(context.Context) error) bool {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		return f(ctx) == nil
	}
	var conn *pgx.Conn
	if !try(func(ctx context.Context) (err error) { conn, err = pgx.Connect(ctx, dsn); return err }) {
		return
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		_ = conn.Close(ctx) // it may be gone
	}()
	for try(func(ctx context.Context) error {
		_, err := conn.Exec(ctx, "INSERT INTO public.beats DEFAULT VALUES")
		return err
	}) {
		wrote()
		pause(ctx, beatPause)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// report prints for how long nobody could write, at each node and without one.
// It is a figure, not a verdict: the machine decides much of it.
func (w *world) report(t *testing.T) {
	t.Helper()
	written := map[string][]time.Duration{}
	for _, op := range w.run.Ops() {
		if op.Outcome == history.OK && (op.Kind == history.Put || op.Kind == history.Create || op.Kind == history.Update) {
			written[op.Node] = append(written[op.Node], op.End)
		}
	}
	for _, o := range w.outages {
		var b strings.Builder
		for _, n := range w.c.Nodes {
			fmt.Fprintf(&b, ", %s %s", n.Name, window(written[n.Name], o))
		}
		t.Logf("%s: longest time without a write: bare connection %s%s", o.what, window(o.bare, o), &b)
	}
}

// window is the longest time between two writes that reaches into the outage.
func window(at []time.Duration, o outage) string {
	var last, longest time.Duration
	for i, then := range at {
		if then >= o.from {
			if i == 0 {
				last = o.from
			}
			longest = max(longest, then-last)
		}
		if last = then; then > o.to {
			return longest.Round(time.Millisecond).String()
		}
	}
	return "no more"
}
