// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// A panic while mu is locked must end the session, not leave it and its backend
// waiting for ever.
func TestAPanicGivesUpTheLock(t *testing.T) {
	near, far := net.Pipe()
	m := newMetrics()
	ss := &session{srv: &Server{metrics: m, cfg: Config{Log: slog.New(slog.DiscardHandler)}}, client: wire.NewConn(near)}
	ss.leg.Store(&leg{Conn: wire.NewConn(near)})
	func() {
		defer ss.rescue("test")
		ss.mu.Lock()
		panic("test")
	}()
	if !ss.mu.TryLock() {
		t.Error("the lock is kept")
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connections are open: %v", err)
	}
	if got := testutil.ToFloat64(m.panics); got != 1 {
		t.Errorf("%v panics counted, want 1", got)
	}
}

// Answers forget portals while the front holds no lock.
func TestExecuteOfAForgottenPortal(t *testing.T) {
	ss := &session{}
	ss.portals = map[string]*portal{}
	if v := ss.noteExecute([]byte("p\x00\x00\x00\x00\x00")); v != pass || ss.portals["p"] == nil {
		t.Fatalf("verdict %v", v)
	}
	clear(ss.portals)
	if p := ss.portalOf([]byte("p")); p == nil || p.name != "p" {
		t.Errorf("got %+v", p)
	}
}

// A log-in that panics keeps neither its place nor a connection to the server.
func TestAPanicAtLoginGivesUpThePlace(t *testing.T) {
	client, _ := net.Pipe()
	near, far := net.Pipe()
	s := &Server{metrics: newMetrics(), cfg: Config{Log: slog.New(slog.DiscardHandler)}, census: census{users: map[string]int{}}, byPID: map[uint32][]*session{}}
	s.SetLimits(Limits{MaxSessions: 1})
	ss := &session{srv: s, user: "u", client: wire.NewConn(client)}
	func() {
		defer s.recovered("test")
		s.letIn(client, ss, func() error {
			if err := s.admitUser(ss); err != nil {
				t.Fatal(err)
			}
			ss.leg.Store(&leg{Conn: wire.NewConn(near)})
			panic("test")
		})
	}()
	if err := s.room(ss); err != nil {
		t.Errorf("the place is kept: %v", err)
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection to the server is open: %v", err)
	}
}

// TestPanicsBeside: nothing that a node does beside its sessions, or to accept a client,
// takes the process down.
func TestPanicsBeside(t *testing.T) {
	s := &Server{metrics: newMetrics(), cfg: Config{Log: slog.New(slog.DiscardHandler)}}
	s.SetLimits(Limits{})
	done := make(chan struct{})
	s.beside("test", func() {
		defer close(done)
		panic("panic canary")
	})
	<-done
	near, _ := net.Pipe()
	s.start(near) // there is no lobby
	if !s.mu.TryLock() {
		t.Error("the lock is kept")
	}
	for testutil.ToFloat64(s.metrics.panics) < 2 {
		runtime.Gosched()
	}
}
