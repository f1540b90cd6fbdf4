// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import "time"

// silentLimit is how long a primary may leave a session beside a standby, and the
// node, without any answer: the connection was cut without a word, or the server
// stands still.
const silentLimit = 5 * time.Second

var errSilent = fatalError(stateConnection, "the primary does not answer", "Connect again.")

var errReplaced = fatalError(stateShutdown, "terminating connection: another server has replaced this one as the primary", "Connect again.")

// errLocalReplaced refuses log-ins: what they wrote would be lost.
var errLocalReplaced = fatalError(stateCannotConnect, "another server has replaced the one beside this node as the primary",
	"Connect to another node. The server's own port still answers: make it a standby of the new primary.")

// A fence is what is known of who has been replaced.
type fence struct {
	timeline uint32 // the latest
	local    bool   // the server beside the node
}

func (s *Server) fence() fence {
	return fence{s.cfg.Vault.Timeline(), s.cfg.Vault.LocalReplaced()}
}

// fenceOff ends the sessions at servers that have been replaced: what they write
// there is lost. One that holds its lock holds up nobody else.
func (s *Server) fenceOff(f fence) {
	for _, ss := range s.all() {
		s.beside("ending a session", func() {
			if ss.replaced(f) {
				ss.terminate(errReplaced)
			}
		})
	}
}

// sweepSilent ends the sessions that wait for a primary which has answered nobody
// for too long.
func (s *Server) sweepSilent() {
	for _, ss := range s.all() {
		if l := ss.server(); l.remote() && s.cfg.Vault.Silent(l.at.Server) > silentLimit && ss.waitsForServer() {
			s.beside("ending a session", func() { ss.terminate(errSilent) }) // a client that does not read holds up nobody else
		}
	}
}

func (ss *session) waitsForServer() bool {
	if !ss.mu.TryLock() {
		return false
	}
	defer ss.mu.Unlock()
	return ss.queue.len() > 0
}

// replaced reports whether the session writes to a server that another one has
// replaced.
func (ss *session) replaced(f fence) bool {
	l := ss.server()
	if l.timeline != 0 {
		return l.timeline < f.timeline
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return f.local && !ss.standby && !ss.replication
}
