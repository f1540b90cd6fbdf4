// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"cmp"
	"slices"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// A SessionInfo is what a node knows of one session. It holds no text of a
// statement, and no value.
type SessionInfo struct {
	PID         uint32 `json:"pid"` // what the client was given: its first backend's process id
	Role        string `json:"role"`
	Database    string `json:"database"`
	Client      string `json:"client"` // address, or "socket"
	TLS         bool   `json:"tls"`
	Replication bool   `json:"replication,omitempty"`
	State       string `json:"state"`         // idle, active, in block, in failed block; of a busy session as last seen: busy
	Server      string `json:"server"`        // address of the server that it is at
	Backend     uint32 `json:"backend"`       // process id there
	Moved       bool   `json:"moved"`         // it is at the primary, from beside a standby
	Why         string `json:"why,omitempty"` // it wanted to go to the other server and could not
}

// Sessions lists the sessions that have logged in, by process id.
func (s *Server) Sessions() []SessionInfo {
	all := s.all()
	list := make([]SessionInfo, 0, len(all))
	for _, ss := range all {
		list = append(list, ss.info())
	}
	slices.SortFunc(list, func(a, b SessionInfo) int { return cmp.Compare(a.PID, b.PID) })
	return list
}

func (ss *session) info() SessionInfo {
	l := ss.server()
	i := SessionInfo{
		PID: ss.key.pid, Role: ss.user, Database: ss.database, Client: ss.peerText(), TLS: ss.tls, Replication: ss.replication,
		State: "busy", Server: l.at.Addr, Backend: l.pid, Moved: l.remote(),
	}
	if !ss.mu.TryLock() { // its client may read nothing
		return i
	}
	defer ss.mu.Unlock()
	i.Why = ss.why
	switch {
	case ss.queue.len() > 0 || ss.replication:
		i.State = "active"
	case ss.state == wire.InBlock:
		i.State = "in block"
	case ss.state == wire.InFailed:
		i.State = "in failed block"
	default:
		i.State = "idle"
	}
	return i
}
