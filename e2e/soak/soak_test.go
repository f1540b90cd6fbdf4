// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package soak keeps hundreds of clients at work for a long time, with hostile
// ones beside them for a part of it, and looks whether anything is wrong, slow
// or left over.
package soak

import (
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/hostile"
	"github.com/hyperiondb/hyperion-vault/e2e/load"
)

// A spec says how much and how long.
type spec struct {
	sessions int
	duration time.Duration
	pace     time.Duration // between two pieces of work of one client, at least
	ramp     time.Duration // in which the clients come
	silent   int           // hostile connections that say nothing
	report   time.Duration
	measured bool // latencies and memory count
}

// The long form is `make soak`'s; the short one goes the same way once in CI.
var (
	long = spec{
		sessions: 500, duration: 30 * time.Minute, pace: time.Second, silent: 10_000, report: time.Minute,
		measured: true,
	}
	short = spec{
		sessions: 24, duration: 9 * time.Second, pace: 50 * time.Millisecond, ramp: time.Second, silent: 500, report: time.Minute,
	}
)

// choose returns what whoever runs it wants: SOAK is how long.
func choose(t *testing.T) spec {
	t.Helper()
	if os.Getenv("SOAK") == "" {
		return short
	}
	s := long
	for name, field := range map[string]*time.Duration{"SOAK": &s.duration, "SOAK_PACE": &s.pace} {
		if text := os.Getenv(name); text != "" {
			d, err := time.ParseDuration(text)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			*field = d
		}
	}
	if text := os.Getenv("SOAK_SESSIONS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("SOAK_SESSIONS: %v", err)
		}
		s.sessions = n
	}
	s.ramp = min(s.duration/10, time.Minute)
	return s
}

const heldBytes = 128 << 20

// memoryBound counts the clients, those that measure, and the lobby.
func (s spec) memoryBound() int64 { return hostile.MemoryBound(heldBytes, int64(s.sessions)+200+1000) }

// TestSoak goes through phases: all sessions once, to warm up; then a baseline at
// rest; calm, beside hostile strangers, beside hostile insiders, beside the same
// insiders at the server's own port, and calm again; then rest again, which must
// be as the baseline.
func TestSoak(t *testing.T) {
	s := choose(t)
	c := cluster.Start(t, cluster.Spec{
		Listen: "0.0.0.0",
		Settings: map[string]string{
			"max_connections": strconv.Itoa(s.sessions + 200), "shared_preload_libraries": "hyperion_vault", "shared_buffers": "64MB",
			"autovacuum_naptime": "30s",
		},
		NodeEnv: map[string]string{"VAULT_MAX_HELD_BYTES": strconv.Itoa(heldBytes), "VAULT_LOG_LEVEL": "warn"},
	})
	r := &run{spec: s, c: c, n: c.Nodes[0], admin: newAdmin(t, c)}
	r.asOne(t)
	if s.measured && os.Getenv("SOAK_PACE") == "" {
		r.atPace(t)
	}
	began := time.Now()
	t.Logf("%d sessions, %v; %d hostile connections; memory bound %d MB", s.sessions, s.duration, s.silent, s.memoryBound()>>20)

	warm := r.fleet(t, "soak/warm")
	wait(t, s.ramp+min(s.duration/10, time.Minute))
	warm.Stop()
	r.right(t, warm)
	base := r.atRest(t, usage{})
	r.say(t, "baseline", began, warm, base)

	main := r.fleet(t, "soak/main")
	wait(t, s.ramp)
	r.prepare(t)
	stopReport := make(chan struct{})
	var reports sync.WaitGroup
	reports.Go(func() { r.reportEvery(t, stopReport, began, main) })

	calm := r.phase(t, main, nil)
	bad := map[string]sample{}
	for _, a := range []struct{ who, at, dsn string }{
		{strangers, r.n.Proxy, c.DSN(0, c.User)},
		{insiders, r.n.Proxy, c.DSN(0, c.User)},
		{insidersAtServer, r.n.Postgres, c.DirectDSN(0, c.User) + noticing},
	} {
		bad[a.who] = r.phase(t, main, func() func() { return r.attack(t, a.who, a.at, a.dsn) })
	}
	calm.add(r.phase(t, main, nil))
	close(stopReport)
	reports.Wait()
	main.Stop()
	r.finish(t)
	r.right(t, main)
	end := r.atRest(t, base)
	r.say(t, "end", began, main, end)
	r.judge(t, base, end)
	compare(t, s.measured, calm, bad)
}

// fleet starts the clients: a fifth of them touch secrets.
func (r *run) fleet(t *testing.T, prefix string) *load.Fleet {
	t.Helper()
	return load.Start(t.Context(), load.Spec{
		DSN: r.c.DSN(0, r.c.User), Clients: r.spec.sessions, Secrets: r.spec.sessions / 5, Pace: r.spec.pace, Ramp: r.spec.ramp, Prefix: prefix,
	})
}

func (r *run) right(t *testing.T, f *load.Fleet) {
	t.Helper()
	if err := f.Err(); err != nil {
		t.Errorf("clients: %v", err)
	}
	if f.Pieces.Load() == 0 {
		t.Error("the clients have done nothing")
	}
}

func wait(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
		t.Fatal("stopped")
	}
}
