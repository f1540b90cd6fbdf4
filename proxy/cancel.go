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

// deliveries are the cancel requests that clients send for one session. A server that is
// busy takes long to hear one, and starts a process for it, so one is on its way at a
// time: it is for all who asked before it was sent.
type deliveries struct {
	mu    sync.Mutex
	asked uint64             // requests so far
	heard uint64             // of these the server has heard
	meant uint64             // settled, when the last of them came
	wait  int                // for how many the server is waited for
	over  chan struct{}      // closed when the one on its way is; nil: there is none
	stop  context.CancelFunc // ends that
	gone  bool               // the session is
}

// maxDeliveries is how many requests may wait for one session's server. Each has a
// place in the lobby.
const maxDeliveries = 4

// cancelRunning interrupts what the session is doing now: a call of the core, and the
// statement that the server runs, and returns when the server has acted. With nothing
// in flight it does nothing, and so later than that: it would hit what the client sends
// next.
func (ss *session) cancelRunning(ctx context.Context) {
	c := &ss.cancels
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wait < maxDeliveries {
		c.wait++
		defer func() { c.wait-- }()
	} else {
		ended, stop := context.WithCancel(ctx)
		stop()
		ctx = ended // it counts, and waits for nothing
	}
	busy, settled := ss.interrupt(ctx)
	if !busy {
		return
	}
	c.asked, c.meant = c.asked+1, max(c.meant, settled)
	for own := c.asked; c.heard < own && !c.gone && ctx.Err() == nil; {
		if c.over == nil {
			if !ss.deliver(ctx) {
				return
			}
			continue
		}
		over := c.over
		c.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
		}
		c.mu.Lock()
	}
}

// interrupt ends a call of the core, and reports whether the server owes something.
// cancels.mu is held, and given up meanwhile.
func (ss *session) interrupt(ctx context.Context) (busy bool, settled uint64) {
	ss.cancels.mu.Unlock()
	defer ss.cancels.mu.Lock()
	if !ss.tryLock(ctx) {
		return false, 0
	}
	defer ss.mu.Unlock()
	for _, o := range ss.ops {
		if o.running {
			o.cancel()
		}
	}
	return ss.queue.len() > 0 || ss.replication, ss.settled
}

// tryLock takes mu while ctx lasts: the back may hold it as long as the client reads
// nothing.
func (ss *session) tryLock(ctx context.Context) bool {
	for wait := time.Millisecond; !ss.mu.TryLock(); wait = min(2*wait, 100*time.Millisecond) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
	return true
}

// deliver brings one request to the server that the session uses now. cancels.mu is
// held, and given up meanwhile. False: it did not get there.
func (ss *session) deliver(ctx context.Context) bool {
	c := &ss.cancels
	over := make(chan struct{})
	ctx, stop := context.WithCancel(ctx)
	c.over, c.stop = over, stop
	c.mu.Unlock()
	defer func() {
		stop()
		c.mu.Lock()
		c.over, c.stop = nil, nil
		close(over)
	}()
	l := ss.server()
	if len(l.secret) == 0 {
		return false
	}
	var covers uint64
	delivered := ss.srv.cancelServer(ctx, l, func() (wanted bool) {
		covers, wanted = ss.stillMeant(ctx, l)
		return wanted
	})
	if delivered && ctx.Err() == nil && ss.server() == l { // else nobody knows whether it has acted, or it had nothing to do
		c.mu.Lock()
		c.heard = max(c.heard, covers)
		c.mu.Unlock()
	}
	return delivered
}

// stillMeant reports which requests one is for that is sent now, and whether what they
// are to end may still be running on that leg. 0: the session has gone to another.
func (ss *session) stillMeant(ctx context.Context, l *leg) (covers uint64, wanted bool) {
	c := &ss.cancels
	c.mu.Lock()
	covers, meant := c.asked, c.meant
	c.mu.Unlock()
	if ss.server() != l {
		return 0, false
	}
	ctx, stop := context.WithTimeout(ctx, 20*time.Millisecond)
	defer stop()
	if !ss.tryLock(ctx) {
		return covers, true
	}
	defer ss.mu.Unlock()
	return covers, ss.queue.len() > 0 && ss.settled == meant || ss.replication
}

// end gives up what is on its way for a session that is over.
func (c *deliveries) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone = true; c.stop != nil {
		c.stop()
	}
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
