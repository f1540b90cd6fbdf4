// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// A cancelKey names a session: its backend's process id and 32 random bytes, of
// which a client of protocol 3.0 holds the first four.
type cancelKey struct {
	pid    uint32
	secret [32]byte
}

// shortSecret is how much of the secret protocol 3.0 has room for.
const shortSecret = 4

func newCancelKey(pid uint32) cancelKey {
	k := cancelKey{pid: pid}
	rand.Read(k.secret[:])
	return k
}

// handed is the part of the secret that the client was given.
func (ss *session) handed() []byte {
	if ss.version >= wire.Version32 {
		return ss.key.secret[:]
	}
	return ss.key.secret[:shortSecret]
}

// cancelRequest delivers a client's cancel request to the backend that runs its
// session and keeps the connection open until the server has acted: clients
// take its end as "delivered". Nothing is ever answered.
//
// A key of protocol 3.0 has 32 bits, so an address that names wrong ones too
// often is not heard: a right one among them would be a guess. Longer keys
// cannot be guessed.
func (s *Server) cancelRequest(req *wire.Startup, from netip.Addr) {
	guessable := len(req.Secret) <= shortSecret
	var p payment
	if guessable {
		p = s.misses.pay(from, float64(s.limits().CancelMisses), time.Now())
		if p.wait > 0 {
			p.giveBack()
			s.turnAway("cancel", from)
			return
		}
	}
	ss := s.findSession(req)
	if ss == nil {
		return
	}
	if guessable {
		p.giveBack()
	}
	s.metrics.cancels.Inc()
	ctx, stop := context.WithTimeout(s.ctx, cancelTimeout)
	defer stop()
	ss.cancelRunning(ctx)
}

// findSession compares hashes, so that the time says nothing about how much of
// a guessed key was right.
func (s *Server) findSession(req *wire.Startup) *session {
	want := sha256.Sum256(req.Secret)
	s.mu.Lock()
	defer s.mu.Unlock()
	var found *session
	for _, ss := range s.byPID[req.PID] {
		if sha256.Sum256(ss.handed()) == want {
			found = ss
		}
	}
	return found
}

// deliveries are the cancel requests that clients send for one session.
type deliveries struct {
	mu      sync.Mutex
	current *delivery // nil: none is on its way
	waiting int
}

// A delivery is on its way to the server.
type delivery struct {
	leg  *leg
	sent bool
	done chan struct{}
}

// maxDeliveries is how many requests may wait for one session's server.
const maxDeliveries = 4

// deliver brings a cancel request to the server and returns when that has acted. A
// server that is busy takes long to hear one, and starts a process for it, so there is
// one at a time: requests that come before it was sent are the same, those that come
// behind make one more. Nothing is sent once the session is idle: it would hit what the
// client sends next.
func (ss *session) deliver(ctx context.Context, l *leg) {
	c := &ss.cancels
	c.mu.Lock()
	if c.waiting == maxDeliveries {
		c.mu.Unlock()
		return
	}
	c.waiting++
	defer func() { c.waiting--; c.mu.Unlock() }()
	for c.current != nil {
		d := c.current
		same := d.leg == l && !d.sent
		c.mu.Unlock()
		select {
		case <-d.done:
		case <-ctx.Done():
			same = true
		}
		if c.mu.Lock(); same {
			return
		}
	}
	d := &delivery{leg: l, done: make(chan struct{})}
	c.current = d
	c.mu.Unlock()
	defer func() { c.mu.Lock(); c.current = nil; close(d.done) }()
	ss.srv.cancelServer(ctx, l, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		d.sent = true
		return ss.mayBeBusy()
	})
}

// mayBeBusy reports whether the server may owe something.
func (ss *session) mayBeBusy() bool {
	if !ss.mu.TryLock() { // the back may hold it while the client reads nothing
		return true
	}
	defer ss.mu.Unlock()
	return ss.queue.len() > 0
}

// cancelServer sends a leg's server its own cancel request, if it is still wanted then,
// and waits for it to close the connection. False: it did not get there.
func (s *Server) cancelServer(ctx context.Context, l *leg, wanted func() bool) bool {
	nc, err := l.at.dial(ctx, s, l.at.mode())
	if err != nil {
		if !errors.Is(ctx.Err(), context.Canceled) { // nobody wants it any more
			s.grumble.Do(func() {
				s.cfg.Log.Warn("a cancel request could not reach the server", "server", l.at.Addr, "error", err.Error())
			})
		}
		return false
	}
	defer nc.Close()                                                           //nolint:errcheck // nothing depends on it
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // as above
	defer stop()
	if wanted != nil && !wanted() {
		return true
	}
	if _, err := nc.Write(wire.AppendCancel(nil, l.pid, l.secret)); err != nil {
		return false
	}
	io.Copy(io.Discard, io.LimitReader(nc, 1)) //nolint:errcheck // the server says nothing and closes
	return true
}
