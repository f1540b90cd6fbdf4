// SPDX-License-Identifier: GPL-3.0-or-later

//go:build docker

package docker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"
)

// A load writes and reads while something breaks.
type load struct {
	stop context.CancelFunc
	done sync.WaitGroup

	value   string         // of the secret that is read
	started map[int]string // when the servers did, beside which it is read

	mu    sync.Mutex
	acked map[string]write // what was confirmed
	reads int
	lost  map[int][]error // reads that failed, by host
}

// A write is a value, and what a read has to send to see it.
type write struct{ value, written string }

// startLoad writes new secrets through one node, and reads one through others.
func startLoad(t *testing.T, name string, writer int, readers ...int) *load {
	t.Helper()
	value := canary()
	written, err := put(t.Context(), writer, name, value)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range readers {
		wantValue(t, host, name, value, readAfter, written) // its key is in each node's cache
	}
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop, value: value, started: map[int]string{}, acked: map[string]write{name: {value, written}}, lost: map[int][]error{}}
	for _, host := range readers {
		l.started[host] = started(t, host)
	}
	l.done.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			name, value := name+"/"+strconv.Itoa(i), canary()
			if written, err := put(ctx, writer, name, value); err == nil {
				l.mu.Lock()
				l.acked[name] = write{value, written}
				l.mu.Unlock()
			}
		}
	})
	for _, host := range readers {
		l.done.Go(func() {
			_ = until(ctx, time.Hour, func() error { // until it is stopped
				a, err := ask(ctx, host, shared.token, "GET", "/v1/secrets/"+name, "")
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err == nil && a.field("value") != value {
					err = errors.New(a.text)
				}
				l.mu.Lock()
				defer l.mu.Unlock()
				l.reads++
				if err != nil {
					l.lost[host] = append(l.lost[host], err)
				}
				return errors.New("again")
			})
		})
	}
	return l
}

func (l *load) confirmed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// started is when a server was.
func started(t *testing.T, host int) string {
	t.Helper()
	at, err := shared.server(t.Context(), host, "SELECT pg_postmaster_start_time()")
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// end wants each confirmed write at a node, and that no read failed but beside a
// server that Patroni has started anew: one that is ahead of the new primary is
// rewound.
func (l *load) end(t *testing.T, host int) {
	t.Helper()
	l.stop()
	l.done.Wait()
	for host, at := range l.started {
		lost := l.lost[host]
		if len(lost) > 0 && started(t, host) == at {
			t.Errorf("node%d: %d reads failed, at last: %v", host, len(lost), lost[len(lost)-1])
		}
		t.Logf("node%d: %d reads failed", host, len(lost))
	}
	t.Logf("%d writes were confirmed, %d reads were tried", len(l.acked), l.reads)
	for name, w := range l.acked {
		wantValue(t, host, name, w.value, readAfter, w.written)
	}
}

// wantProgress waits for new confirmed writes.
func (l *load) wantProgress(t *testing.T) {
	t.Helper()
	before := l.confirmed()
	wait(t, "writes go on", 2*time.Minute, func() error {
		if n := l.confirmed(); n < before+5 {
			return fmt.Errorf("%d were confirmed, %d before", n, before)
		}
		return nil
	})
}

// TestPrimaryKilled: a standby takes over without a client's doing, reads go on
// meanwhile, no confirmed write is lost, and the killed server comes back.
func TestPrimaryKilled(t *testing.T) {
	shared.wantWhole(t)
	primary := shared.wantPrimary(t)
	alive := others(primary)
	l := startLoad(t, "killed", alive[0], alive...)
	l.wantProgress(t)

	began := time.Now()
	docker(t, "kill", shared.id(t, fmt.Sprintf("db%d", primary)))
	next := shared.wantPrimary(t, primary)
	l.wantProgress(t)
	t.Logf("db%d took over from db%d; writes went on within %s", next, primary, time.Since(began).Round(time.Second))
	if a := wantAs(t, "", 503, primary, "GET", "/readyz", ""); a.fields["status"] != "unavailable" {
		t.Errorf("the node without its server: got %s", a.text)
	}

	docker(t, "start", shared.id(t, fmt.Sprintf("db%d", primary)))
	shared.wantWhole(t)
	l.end(t, primary)
}

// A cut takes a host off the networks of the cluster. Its node can still be reached
// by clients.
var cuts = []struct{ service, network string }{
	{"db", "cluster"}, {"db", "consensus"}, {"etcd", "consensus"}, {"node", "cluster"},
}

func setLinks(t *testing.T, host int, connected bool) {
	t.Helper()
	for _, c := range cuts {
		service, network := fmt.Sprintf("%s%d", c.service, host), project+"_"+c.network
		if connected {
			docker(t, "network", "connect", "--alias", service, network, shared.id(t, service))
		} else {
			docker(t, "network", "disconnect", network, shared.id(t, service))
		}
	}
}

// TestHostCutOff cuts the primary's host off: the others go on, it confirms no
// write and serves what it has, and it follows when the network is back.
func TestHostCutOff(t *testing.T) {
	shared.wantWhole(t)
	primary := shared.wantPrimary(t)
	alive := others(primary)
	l := startLoad(t, "cut", alive[0], alive...)
	l.wantProgress(t)
	wantValue(t, primary, "cut", l.value) // its key is in the cache

	setLinks(t, primary, false)
	whole := false
	defer func() {
		if !whole { // the next test wants it so
			setLinks(t, primary, true)
		}
	}()
	wait(t, "the others have a primary", 2*time.Minute, func() error {
		for _, host := range alive {
			if standby, err := shared.server(t.Context(), host, "SELECT pg_is_in_recovery()"); err == nil && standby == "f" {
				return nil
			}
		}
		return errors.New("both are standbys")
	})
	l.wantProgress(t)
	wait(t, "the primary that was is none", time.Minute, func() error {
		if standby, err := shared.server(t.Context(), primary, "SELECT pg_is_in_recovery()"); err != nil || standby != "t" {
			return fmt.Errorf("in recovery: %q, %w", standby, err)
		}
		return nil
	})
	if _, err := put(t.Context(), primary, "cut/elsewhere", "lost"); err == nil {
		t.Error("a host that is cut off confirmed a write")
	}
	wait(t, "it serves what it has", time.Minute, func() error {
		a, err := ask(t.Context(), primary, shared.token, "GET", "/v1/secrets/cut", "")
		if err == nil && a.status != 200 {
			err = fmt.Errorf("%d %s", a.status, a.text)
		}
		return err
	})

	setLinks(t, primary, true)
	whole = true
	shared.wantWhole(t)
	l.end(t, primary)
	want(t, 404, primary, "GET", "/v1/secrets/cut/elsewhere", "")
}

// TestStop: a node that is told to end lets a transaction be finished, and a
// server ends in order.
func TestStop(t *testing.T) {
	shared.wantWhole(t)
	primary := shared.wantPrimary(t)
	conn := session(t, primary)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT vault.put_secret('stop/secret', 'finished')"); err != nil {
		t.Fatal(err)
	}
	node := shared.id(t, fmt.Sprintf("node%d", primary))
	docker(t, "kill", "--signal", "TERM", node)
	wait(t, "the node drains", time.Minute, func() error {
		a, err := ask(t.Context(), primary, "", "GET", "/readyz", "")
		if err == nil && a.status == 200 {
			return errors.New(a.text)
		}
		return nil
	})
	if err := tx.Commit(t.Context()); err != nil {
		t.Errorf("the commit of a transaction that had begun: %v", err)
	}
	if code := docker(t, "wait", node); code != "0" {
		t.Errorf("the node's exit code: got %s, want 0", code)
	}
	docker(t, "start", node)
	shared.wantWhole(t)
	wantValue(t, primary, "stop/secret", "finished")

	standby := others(primary)[0]
	server := shared.id(t, fmt.Sprintf("db%d", standby))
	docker(t, "stop", "--time", "60", server)
	if code := docker(t, "inspect", "--format", "{{.State.ExitCode}}", server); code != "0" {
		t.Errorf("the server's exit code: got %s, want 0", code)
	}
	docker(t, "start", server)
	shared.wantWhole(t)
}

// TestDownAndUp: with its volumes the cluster comes back as it was, init finds all
// of it, and the token is the same.
func TestDownAndUp(t *testing.T) {
	shared.wantWhole(t)
	if _, err := put(t.Context(), 1, "again/secret", "kept"); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"down"}, {"up", "--detach"}} {
		if out, err := shared.run(t.Context(), args...); err != nil {
			t.Fatalf("%v\n%s", err, short(out))
		}
	}
	shared.wantWhole(t)
	before := shared.token
	if err := shared.readToken(t.Context()); err != nil || shared.token != before {
		t.Errorf("the token is another (%v)", err)
	}
	for host := 1; host <= hosts; host++ {
		wantValue(t, host, "again/secret", "kept")
	}
}
