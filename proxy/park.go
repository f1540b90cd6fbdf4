// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import "time"

// parkEvery is how often it is looked whether sessions are idle: one is parked
// after that time at the earliest, and twice that at the latest.
const parkEvery = 5 * time.Second

// parkIdle stops the goroutines of sessions that have been waiting since the last
// time for their clients. A session over TLS is never parked: what its client
// sent may have been read already.
func (s *Server) parkIdle() {
	for _, ss := range s.all() {
		if ss.parkable() {
			ss.client.Park() // see relay
		}
	}
}

// parkable reports whether the session has had nothing to do since the last time.
func (ss *session) parkable() bool {
	last := ss.waits
	ss.waits = ss.client.Waits()
	if ss.waits == 0 || ss.waits != last || ss.replication || ss.server().Waits() == 0 || !ss.mu.TryLock() {
		return false
	}
	defer ss.mu.Unlock()
	return ss.quiet() && !ss.ended && !ss.closing && !ss.ops[opFront].running && !ss.ops[opBack].running
}

// busy reports that something came while the session was to be parked. The back
// may be at work with it for long, and the front must see a client that goes.
func (ss *session) busy() bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return !ss.quiet()
}

// park gives both connections to the Parker. If it does not take them, or the
// session has ended, both goroutines have to go on.
func (ss *session) park() (parked bool) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.ended {
		return false
	}
	id, err := ss.srv.parker.Park(ss.client, ss.server().Conn, ss.unpark)
	if err != nil {
		ss.srv.grumble.Do(func() { ss.srv.cfg.Log.Warn("idle sessions cannot be parked", "error", err.Error()) })
		return false
	}
	ss.parked, ss.tended = id, false
	return true
}

// unpark runs the session again.
func (ss *session) unpark() {
	go func() {
		ss.mu.Lock()
		ss.parked = 0
		ss.mu.Unlock()
		ss.srv.run(ss)
	}()
}
