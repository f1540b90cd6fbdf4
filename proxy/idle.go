// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"context"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// sweepIdle ends sessions that have been idle for as long as VAULT_IDLE_SECS
// says, until the server ends. One look over all of them costs less than a timer
// for each.
func (s *Server) sweepIdle(ctx context.Context) {
	for {
		var tick <-chan time.Time
		limit := s.limits().Idle
		var timer *time.Timer
		if limit > 0 {
			timer = time.NewTimer(min(max(limit/10, 50*time.Millisecond), time.Second))
			tick = timer.C
		}
		select {
		case <-ctx.Done():
		case <-s.retuned:
		case now := <-tick:
			for _, ss := range s.all() {
				if ss.overdue(limit, now) {
					s.beside("ending a session", func() { ss.terminate(errIdle) }) // a client that does not read holds up nobody else
				}
			}
		}
		if timer != nil {
			timer.Stop()
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// all are the sessions of the moment.
func (s *Server) all() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*session, 0, len(s.sessions))
	for _, ss := range s.sessions {
		list = append(list, ss)
	}
	return list
}

// began is where stamps count from.
var began = time.Now()

// stamp is a moment of the monotonic clock, which no correction of the time moves,
// in nanoseconds; never 0.
func stamp(t time.Time) int64 { return int64(t.Sub(began)) + 1 }

// overdue reports whether the session has been idle for too long, and lets its
// front send nothing more if so. Time in which the server or the KMS works, in a
// transaction, or in which a replication stream runs, is not idle.
func (ss *session) overdue(limit time.Duration, now time.Time) bool {
	if ss.replication {
		return false
	}
	free := ss.mu.TryLock()
	if free {
		defer ss.mu.Unlock()
	}
	since := ss.active.Load()
	if !free || since == 0 || ss.state != wire.Idle || !ss.quiet() || ss.working || ss.ops[opFront].running || ss.ops[opBack].running {
		ss.active.Store(stamp(now))
		return false
	}
	if ss.ended || time.Duration(stamp(now)-since) < limit {
		return false
	}
	ss.ended, ss.last = true, errIdle
	return true
}

// touch notes that the client sent something.
func (ss *session) touch() {
	if ss.srv.limits().Idle > 0 {
		ss.active.Store(stamp(time.Now()))
	}
}
