// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package soak

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// A probe is a few clients that do one small thing at a time and measure how
// long it takes: a statement, a read of a secret.
type probe struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	samples []time.Duration
	errs    []error
}

const (
	probeClients = 4
	probeEvery   = 50 * time.Millisecond
)

func newProbe(t *testing.T, c *cluster.Cluster) *probe {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &probe{cancel: cancel}
	first := c.Connect(t, c.DSN(0, c.User))
	cluster.Exec(t, first, "SELECT vault.put_secret('soak/probe', 'probe')")
	for i := range probeClients {
		conn := c.Connect(t, c.DSN(0, c.User))
		sql, arg := "SELECT $1::text", "probe"
		if i%2 == 1 {
			sql, arg = "SELECT vault.read_secret($1)", "soak/probe"
		}
		p.wg.Go(func() {
			if err := p.measure(ctx, conn, sql, arg); err != nil {
				p.mu.Lock()
				p.errs = append(p.errs, err)
				p.mu.Unlock()
			}
			conn.Close(context.WithoutCancel(ctx))
		})
	}
	first.Close(ctx)
	return p
}

func (p *probe) measure(ctx context.Context, conn *pgx.Conn, sql, arg string) error {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		begun := time.Now()
		var got string
		if err := conn.QueryRow(context.WithoutCancel(ctx), sql, arg).Scan(&got); err != nil {
			return err
		}
		took := time.Since(begun)
		if got != "probe" {
			return fmt.Errorf("WRONG ANSWER: got %q", got)
		}
		p.mu.Lock()
		p.samples = append(p.samples, took)
		p.mu.Unlock()
	}
}

// phase measures for so long.
func (p *probe) phase(t *testing.T, d time.Duration) []time.Duration {
	t.Helper()
	p.mu.Lock()
	p.samples = nil
	p.mu.Unlock()
	wait(t, d)
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.samples
	p.samples = nil
	return got
}

func (p *probe) stop() {
	p.cancel()
	p.wg.Wait()
}

func (p *probe) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.errs...)
}
