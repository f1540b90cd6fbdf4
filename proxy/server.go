// SPDX-License-Identifier: GPL-3.0-or-later

// Package proxy is the SQL face of the vault: it speaks PostgreSQL's wire
// protocol with clients and, as the client's own role, with the server beside
// it. What does not concern the vault passes byte for byte; calls that carry a
// value are sealed on their way in, sealed columns are opened on their way out.
package proxy

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/hyperiondb/hyperion-vault/proxy/lobby"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// RequireTLS says what a session in clear may do when the node has a
// certificate. Clients on loopback and sockets are exempt.
type RequireTLS int

// The values of VAULT_REQUIRE_TLS.
const (
	// TLSForSecrets relays ordinary traffic but opens and seals nothing.
	TLSForSecrets RequireTLS = iota
	// TLSForAll refuses the log-in.
	TLSForAll
	// TLSOff asks for nothing.
	TLSOff
)

// Config is what a Server needs. Zero durations and counts take the defaults
// named at each field.
type Config struct {
	Vault    *vault.Vault
	Analyzer *rewrite.Analyzer
	Local    vault.Server // the server beside the node
	// ServerTLS says how to speak TLS with a server that is not a socket; nil: as
	// sslmode=disable.
	ServerTLS  func(vault.Server) *ServerTLS
	TLS        *tls.Config // the node's certificate; nil: no TLS with clients
	RequireTLS RequireTLS
	AllowTrust bool // accept a server that asks for no password
	IgnoreHBA  bool // do not apply the server's pg_hba.conf to clients' addresses
	// AppnameAddHost puts the client's address into application_name.
	AppnameAddHost bool
	OpenIndirect   OpenIndirect
	Database       string // the database that has the vault, for hints
	Routing        Routing
	PrimaryWait    time.Duration // how long a write on a standby waits for a primary; 0: not at all
	MoveBack       time.Duration // after how long without a write a session goes back to its standby; 0: never
	Park           time.Duration // how long the connection that a session has left is kept; 0: not at all
	Limits         Limits
	MockSecret     []byte // keys the salts of unknown roles; equal on all nodes
	Log            *slog.Logger
	Registerer     prometheus.Registerer
}

// OpenIndirect says whose indirect openings (a view, a function) are opened.
type OpenIndirect int

// The values of VAULT_OPEN_INDIRECT.
const (
	// IndirectUsers opens them for ordinary roles: the tools of superusers and
	// BYPASSRLS roles read everybody's objects.
	IndirectUsers OpenIndirect = iota
	// IndirectOn opens them for everybody.
	IndirectOn
	// IndirectOff opens them for nobody.
	IndirectOff
)

// cancelTimeout bounds how long a client's cancel connection stays open while
// the server acts on it: who took its end for the end of the statement would have the
// next one cancelled.
const cancelTimeout = 30 * time.Second

// strangersPerSecond bounds the failing log-ins of all addresses from which
// nobody has logged in lately: half of what the server's own limiter lets pass,
// so that they leave the other half to the clients that are known.
const strangersPerSecond = 500

// A Server accepts clients and serves each in a session of its own. It is safe
// for concurrent use.
type Server struct {
	cfg     Config
	local   *upstream
	metrics *metrics

	limit    atomic.Pointer[Limits]
	retuned  chan struct{} // the limits were replaced
	held     wire.Budget   // what all sessions hold of unfinished messages
	grown    int           // how large a message may be once its values are sealed; wire.MaxLarge but in tests
	lobby    *lobby.Lobby  // connections before log-in
	logins   *budget       // log-ins that fail
	misses   *budget       // cancel requests with a wrong key
	grumble  rate.Sometimes
	lament   rate.Sometimes // over log-ins that cannot be checked
	sweeping sync.Once
	parker   *wire.Parker

	ctx    context.Context // ends with the server
	cancel context.CancelFunc
	wg     sync.WaitGroup // every client
	serves sync.WaitGroup // those that have logged in

	mu        sync.Mutex
	draining  bool // no session begins
	closed    bool // no connection is taken, no cancel request's either
	listeners map[net.Listener]struct{}
	sessions  map[cancelKey]*session // after log-in, by the key that the client holds
	byPID     map[uint32][]*session  // the same, for cancel requests
	census    census
}

// New checks the configuration and returns a Server that serves nothing yet.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Vault == nil || cfg.Analyzer == nil:
		return nil, errors.New("proxy: no vault")
	case cfg.Local.Addr == "":
		return nil, errors.New("proxy: no local server")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if len(cfg.MockSecret) == 0 {
		cfg.MockSecret = make([]byte, 32)
		rand.Read(cfg.MockSecret)
	}
	m := newMetrics()
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // the server's own life, ended by Shutdown
	s := newServer(ctx, cancel, cfg, m)
	if cfg.Registerer != nil {
		if err := m.register(cfg.Registerer, s); err != nil {
			cancel()
			return nil, fmt.Errorf("proxy metrics: %w", err)
		}
	}
	parker, err := wire.NewParker()
	if err != nil {
		cancel()
		return nil, fmt.Errorf("proxy: %w", err)
	}
	s.parker = parker
	context.AfterFunc(ctx, func() { parker.Close() }) //nolint:errcheck // nothing is left to be watched
	return s, nil
}

func newServer(ctx context.Context, cancel context.CancelFunc, cfg Config, m *metrics) *Server {
	s := &Server{
		cfg: cfg, metrics: m, ctx: ctx, cancel: cancel,
		retuned: make(chan struct{}, 1), grown: wire.MaxLarge,
		lobby: lobby.New(), logins: newBudget(strangersPerSecond), misses: newBudget(0),
		grumble:   rate.Sometimes{First: 1, Interval: 10 * time.Second},
		lament:    rate.Sometimes{First: 1, Interval: 10 * time.Second},
		listeners: map[net.Listener]struct{}{},
		sessions:  map[cancelKey]*session{},
		byPID:     map[uint32][]*session{},
		census:    census{users: map[string]int{}},
	}
	s.local = s.upstream(cfg.Local)
	s.SetLimits(cfg.Limits)
	return s
}

// Serve accepts clients from l until Shutdown, or until ctx ends, which closes
// l but leaves sessions running. It returns nil after Shutdown.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		return errors.Join(l.Close(), errDraining)
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer s.forget(l)
	s.sweeping.Do(func() {
		for where, work := range map[string]func(context.Context){
			"sweeping the idle": s.sweepIdle, "sweeping ends": s.sweepEnds, "parking": func(context.Context) { s.parker.Run() },
		} {
			go s.cfg.Vault.Steadily(s.ctx, where, work)
		}
	})
	stop := context.AfterFunc(ctx, func() { l.Close() }) //nolint:errcheck // a second close is harmless
	defer stop()
	for delay := time.Duration(0); ; {
		nc, err := l.Accept()
		switch {
		case err == nil:
			delay = 0
			s.start(nc) //nolint:contextcheck // a session's life is the server's, not its listener's
		case s.isClosed() || ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		default: // out of descriptors, mostly: wait for one to be free
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.cfg.Log.Warn("cannot accept a connection", "error", err.Error())
			select {
			case <-time.After(delay):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

func (s *Server) forget(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

// start runs one client: the log-in in a goroutine of its own, whose stack has
// grown by then, the session in fresh ones. No panic leaves them.
func (s *Server) start(nc net.Conn) {
	defer s.recovered("accept")
	s.metrics.connections.Inc()
	g, evicted, ok, closed := s.receive(nc)
	if closed {
		nc.Close() //nolint:errcheck // nothing was said yet
		return
	}
	if evicted != nil {
		s.turnAway("pending", evicted.Addr())
	}
	if !ok {
		s.turnAway("pending", lobby.Key(lobby.Peer(nc)))
		s.refuse(nc, fatalError(stateTooMany, "sorry, too many clients already", "Too many log-ins are under way: try again."))
		nc.Close() //nolint:errcheck // the client may have closed it
		return
	}
	go func() {
		var ss *session
		defer func() {
			if ss == nil {
				s.finished(nc, g)
			}
		}()
		defer s.recovered("log-in")
		if ss = s.handle(nc, g); ss != nil {
			go s.run(ss)
		}
	}()
}

// receive takes a place for a client in the lobby.
func (s *Server) receive(nc net.Conn) (g, evicted *lobby.Guest, ok, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, false, true
	}
	l := s.limits()
	g, evicted, ok = s.lobby.Enter(nc, l.MaxPending, l.MaxAddressPending, time.Now())
	if ok {
		s.wg.Add(1)
	}
	return g, evicted, ok, false
}

// run runs a session until it ends or is parked.
func (s *Server) run(ss *session) {
	parked := false
	defer func() {
		if !parked {
			s.finished(ss.accepted, nil)
		}
	}()
	defer s.recovered("session")
	parked = ss.run()
}

// finished lets go of a client.
func (s *Server) finished(nc net.Conn, g *lobby.Guest) {
	nc.Close() //nolint:errcheck // the client may have closed it
	g.Leave()
	s.wg.Done()
}

// turnAway counts who was refused for a limit of the node's, and says so in the
// log from time to time: a flood must not fill the disk.
func (s *Server) turnAway(limit string, addr netip.Addr) {
	s.metrics.limited[limit].Inc()
	s.grumble.Do(func() {
		s.cfg.Log.Warn("clients are turned away: a limit is reached", "limit", limit, "client", addrText(addr))
	})
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return "socket"
	}
	return a.String()
}

// register makes a logged-in session known for cancel and drain, and draws its
// cancel key. The process id is the local backend's, so that pg_backend_pid()
// matches.
func (s *Server) register(ss *session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return errDraining
	}
	for {
		ss.key = newCancelKey(ss.server().pid)
		if _, taken := s.sessions[ss.key]; !taken {
			break
		}
	}
	ss.guest.Leave()
	ss.guest = nil
	s.sessions[ss.key] = ss
	s.byPID[ss.key.pid] = append(s.byPID[ss.key.pid], ss)
	s.serves.Add(1)
	s.metrics.sessions.Inc()
	return nil
}

func (s *Server) unregister(ss *session) {
	ss.cancels.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[ss.key] != ss {
		return
	}
	delete(s.sessions, ss.key)
	left := slices.DeleteFunc(s.byPID[ss.key.pid], func(other *session) bool { return other == ss })
	if len(left) == 0 {
		delete(s.byPID, ss.key.pid)
	} else {
		s.byPID[ss.key.pid] = left
	}
	s.serves.Done()
	s.metrics.sessions.Dec()
}
