// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import "fmt"

// A census counts the sessions, those that are about to log in to the server
// among them. Guarded by Server.mu.
type census struct {
	all        int
	walsenders int // counted by the server apart: max_wal_senders
	users      map[string]int
}

// sessionBound is the most sessions there may be: the setting, or all that the
// server takes. Of the latter only superusers get the last ones. 0: none known.
func (s *Server) sessionBound() (most, reserved int, derived bool) {
	if l := s.limits(); l.MaxSessions > 0 {
		return l.MaxSessions, 0, false
	}
	most, reserved = s.cfg.Vault.Slots()
	return most, reserved, true
}

// count is how many sessions stand against a bound. mu is held.
func (s *Server) count(derived bool) int {
	if derived {
		return s.census.all - s.census.walsenders
	}
	return s.census.all
}

// room refuses a client, before it is asked for its password, if nobody could be
// let in.
func (s *Server) room(ss *session) error {
	most, _, derived := s.sessionBound()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fits(ss, most, derived)
}

// fits checks one bound. mu is held.
func (s *Server) fits(ss *session, most int, derived bool) error {
	n := s.count(derived)
	if most <= 0 || n < most || derived && ss.replication {
		return nil
	}
	return tooMany("sorry, too many clients already", sessionsDetail(n, most),
		"Use fewer connections; or raise VAULT_MAX_SESSIONS on the node, and max_connections on the server.")
}

// admitUser takes a place for an authenticated client before it is logged in to
// the server: from here on it counts, so that many at once cannot pass a bound
// together.
func (s *Server) admitUser(ss *session) error {
	most, _, derived := s.sessionBound()
	perUser := s.limits().MaxUserSessions
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fits(ss, most, derived); err != nil {
		return err
	}
	if n := s.census.users[ss.user]; perUser > 0 && n >= perUser {
		return tooMany(fmt.Sprintf("too many connections for role %q", ss.user), sessionsDetail(n, perUser),
			"Use fewer connections, or raise VAULT_MAX_USER_SESSIONS on the node.")
	}
	ss.counted = true
	s.census.all++
	s.census.users[ss.user]++
	if ss.replication {
		s.census.walsenders++
	}
	return nil
}

// admitRole leaves the server's reserved places to superusers. It comes last
// because only the server knows who is one.
func (s *Server) admitRole(ss *session) error {
	most, reserved, derived := s.sessionBound()
	if !derived || ss.superuser || ss.replication {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.count(derived); most > 0 && n > most-reserved { // itself among them
		return tooMany("sorry, too many clients already", sessionsDetail(n-1, most-reserved),
			"Use fewer connections; or raise VAULT_MAX_SESSIONS on the node, and max_connections on the server.")
	}
	return nil
}

// departed gives the place back.
func (s *Server) departed(ss *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ss.counted {
		return
	}
	ss.counted = false
	s.census.all--
	if s.census.users[ss.user]--; s.census.users[ss.user] == 0 {
		delete(s.census.users, ss.user)
	}
	if ss.replication {
		s.census.walsenders--
	}
}

func tooMany(message, detail, hint string) *sqlError {
	return &sqlError{fatal: true, code: stateTooMany, message: message, detail: detail, hint: hint}
}

func sessionsDetail(n, limit int) string {
	return fmt.Sprintf("%d sessions of at most %d are open.", n, limit)
}
