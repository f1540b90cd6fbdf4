// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package soak

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/load"
)

// A run is one soak's cluster and the connection that looks at it.
type run struct {
	spec  spec
	c     *cluster.Cluster
	n     *cluster.Node
	admin *pgx.Conn

	atNode, atServer *probe
}

func newAdmin(t *testing.T, c *cluster.Cluster) *pgx.Conn {
	t.Helper()
	return c.Connect(t, c.SuperDSN(0))
}

// usage is what the node has taken.
type usage struct {
	resident, peak int64
	goroutines     float64
	descriptors    float64
	connections    string // of clients at the server
	pending, held  float64
}

func (r *run) usage(t *testing.T) usage {
	t.Helper()
	n := r.n
	return usage{
		resident: n.Resident(t), peak: n.Peak(t),
		goroutines: n.Metric(t, "go_goroutines"), descriptors: n.Metric(t, "process_open_fds"),
		// The service role's own few come and go by themselves.
		connections: cluster.Text(t, r.admin, "SELECT count(*)::text FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> 'hyperion-vault' AND pid <> pg_backend_pid()"),
		pending:     n.Metric(t, "hyperion_vault_pending_connections"), held: n.Metric(t, "hyperion_vault_held_bytes"),
	}
}

func (u usage) String() string {
	return fmt.Sprintf("resident %d MB (peak %d), goroutines %.0f, descriptors %.0f, server connections %s, before log-in %.0f, held %.0f kB",
		u.resident>>20, u.peak>>20, u.goroutines, u.descriptors, u.connections, u.pending, u.held/1024)
}

// What the service role's pool of 16 may hold at one time and not at another.
const poolSlack = 16

// memorySlack is what Go may keep of what it has freed, beside the baseline.
const memorySlack = 48 << 20

// settled reports whether nothing is left beyond the baseline; a zero one asks
// only for what is always so.
func (u usage) settled(base usage) bool {
	return u.connections == "0" && u.pending == 0 && u.held == 0 &&
		(base.goroutines == 0 || u.goroutines <= base.goroutines+3*poolSlack && u.descriptors <= base.descriptors+poolSlack &&
			u.resident <= base.resident+memorySlack)
}

// atRest waits until the node has given back what it took, five minutes at most:
// Go hands memory back in its own time.
func (r *run) atRest(t *testing.T, base usage) usage {
	t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	u, last := r.usage(t), int64(0)
	for time.Now().Before(deadline) {
		if u.settled(base) && (base.goroutines > 0 || u.resident == last) {
			break
		}
		last = u.resident
		<-tick.C
		u = r.usage(t)
	}
	return u
}

// judge compares the end with the baseline.
func (r *run) judge(t *testing.T, base, end usage) {
	t.Helper()
	if !end.settled(base) {
		t.Errorf("the node does not come back to its baseline:\nbaseline %v\nend      %v", base, end)
	}
	if end.peak > r.spec.memoryBound() {
		t.Errorf("the node's memory has been at %d MB, more than %d", end.peak>>20, r.spec.memoryBound()>>20)
	}
	if got := r.n.Metric(t, "hyperion_vault_internal_errors_total"); got != 0 {
		t.Errorf("%v internal errors", got)
	}
}

func (r *run) say(t *testing.T, what string, began time.Time, f *load.Fleet, u usage) {
	t.Helper()
	t.Logf("%7s %s: sessions %d, statements %d, errors %d; %v",
		time.Since(began).Round(time.Second), what, f.Sessions.Load(), f.Statements.Load(), f.Errors(), u)
}

// reportEvery shows that the work goes on.
func (r *run) reportEvery(t *testing.T, stop <-chan struct{}, began time.Time, f *load.Fleet) {
	t.Helper()
	tick := time.NewTicker(r.spec.report)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.say(t, "running", began, f, r.usage(t))
		case <-stop:
			return
		}
	}
}
