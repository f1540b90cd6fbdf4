// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package soak

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// A probe is a few clients that do one small thing at a time and measure how
// long it takes: a statement, a read of a secret. Through the node, or at the
// server's own port, where a secret reads as its record.
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

// newProbe starts measuring; the secret soak/probe has the value "probe".
func newProbe(t *testing.T, c *cluster.Cluster, dsn, secret string) *probe {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &probe{cancel: cancel}
	for i := range probeClients {
		conn := c.Connect(t, dsn)
		sql, arg, want := "SELECT $1::text", "probe", "probe"
		if i%2 == 1 {
			sql, arg, want = "SELECT vault.read_secret($1)", "soak/probe", secret
		}
		p.wg.Go(func() {
			if err := p.measure(ctx, conn, sql, arg, want); err != nil {
				p.mu.Lock()
				p.errs = append(p.errs, err)
				p.mu.Unlock()
			}
			conn.Close(context.WithoutCancel(ctx))
		})
	}
	return p
}

func (p *probe) measure(ctx context.Context, conn *pgx.Conn, sql, arg, want string) error {
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
		if !strings.HasPrefix(got, want) {
			return fmt.Errorf("WRONG ANSWER: got %q", got)
		}
		p.mu.Lock()
		p.samples = append(p.samples, took)
		p.mu.Unlock()
	}
}

// begin forgets what was measured so far; taken returns what has been since.
func (p *probe) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.samples = nil
}

func (p *probe) taken() []time.Duration {
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
