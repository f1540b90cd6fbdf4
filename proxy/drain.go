// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"context"
	"errors"
	"sync"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// errDraining refuses log-ins as a server does that shuts down: at this SQLSTATE
// clients that know of several hosts try the next one.
var errDraining = &sqlError{
	fatal: true, code: stateCannotConnect, reason: "shutdown",
	message: "this node is shutting down", hint: "Connect to another node.",
}

// Shutdown begins no more sessions and lets each finish its transaction: it ends with
// 57P01 at its next idle point. Until all have, cancel requests are taken. When ctx
// ends first, running statements are cancelled and every session is closed.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	live := make([]*session, 0, len(s.sessions))
	for _, ss := range s.sessions {
		live = append(live, ss)
	}
	s.mu.Unlock()
	for _, ss := range live {
		s.beside("ending a session", ss.drain) // a client that does not read holds up its own session only
	}
	done := make(chan struct{})
	go func() {
		s.serves.Wait()
		s.close()
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.cancel()
		return nil
	case <-ctx.Done():
	}
	s.close()
	var told sync.WaitGroup
	for _, ss := range live {
		told.Go(func() {
			defer s.recovered("ending a session")
			ss.terminate(errShutdown)
		})
	}
	told.Wait()
	s.cancel()
	<-done
	return ctx.Err()
}

// close takes no more connections, and ends those that are no sessions. Again, it does
// nothing.
func (s *Server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	for l := range s.listeners {
		l.Close() //nolint:errcheck // nothing depends on it
	}
	s.lobby.CloseAll()
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// drain ends the session at its next idle point.
func (ss *session) drain() {
	ss.mu.Lock()
	ss.closing = true
	over := ss.drained()
	ss.mu.Unlock()
	if over {
		ss.terminate(errShutdown)
	}
}

// drained reports whether a session that is to be drained is at an idle point, and
// lets its front send nothing more if so: what ran then would be answered by the
// end. Who asks ends the session. mu is held.
func (ss *session) drained() bool {
	if !ss.closing || ss.working || !ss.quiet() || ss.state != wire.Idle {
		return false
	}
	ss.ended, ss.last = true, errShutdown
	return true
}

// lastWord is why the back ends: if somebody else has ended the session, and has a last
// word for the client, the back says it. It closes the connection next, and the other
// one may come too late.
func (ss *session) lastWord(err error) error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if errors.Is(err, errEnded) && ss.last != nil {
		return ss.last
	}
	return err
}
