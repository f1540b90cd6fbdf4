// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// Limits bound what clients can take of the node. Zero fields take the defaults
// named at each. Server.SetLimits replaces them while the server runs.
type Limits struct {
	MaxSessions     int // 0: what the server's max_connections leaves to clients
	MaxUserSessions int // of one role; 0: none

	// Connections before log-in, of all clients and of one address: 1,000, 500.
	MaxPending, MaxAddressPending int
	Handshake                     time.Duration // for the whole of it; 60 s, as PostgreSQL's authentication_timeout
	MaxStartup                    int           // bytes of the first packet; 10,000, as PostgreSQL

	FailedLogins int // log-ins a second that may fail from one address; 50
	CancelMisses int // cancel requests a second with a wrong key from one address; 10

	Idle     time.Duration // how long a session may be idle outside a transaction; 0: for ever
	MaxQuery int           // largest text or Bind that is held; 64 MiB
	MaxHeld  int           // of all sessions together, beyond their buffers; 512 MiB

	KeepAlive   time.Duration // how long a leg is silent before TCP asks whether the peer lives; 60 s
	UserTimeout time.Duration // how long sent data may stay unacknowledged; 0: the system's rule
}

// withDefaults fills in what is zero.
func (l Limits) withDefaults() *Limits {
	for _, d := range []struct {
		field  *int
		preset int
	}{
		{&l.MaxPending, 1000},
		{&l.MaxAddressPending, 500},
		{&l.MaxStartup, wire.MaxStartup},
		{&l.FailedLogins, 50},
		{&l.CancelMisses, 10},
		{&l.MaxQuery, 64 << 20},
		{&l.MaxHeld, 512 << 20},
	} {
		if *d.field == 0 {
			*d.field = d.preset
		}
	}
	if l.Handshake == 0 {
		l.Handshake = 60 * time.Second
	}
	if l.KeepAlive == 0 {
		l.KeepAlive = 60 * time.Second
	}
	return &l
}

// limits are those that hold now.
func (s *Server) limits() *Limits { return s.limit.Load() }

// SetLimits replaces the limits. Sessions that are over a lowered bound stay;
// a new idle time counts for all of them from now on.
func (s *Server) SetLimits(l Limits) {
	fresh := l.withDefaults()
	s.limit.Store(fresh)
	s.held.SetMax(int64(fresh.MaxHeld))
	select {
	case s.retuned <- struct{}{}:
	default: // one is on its way already
	}
}
