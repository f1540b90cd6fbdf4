// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/scram"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// A leg is one connection of a session to a server, logged in as the session's
// role. A session uses one at a time.
type leg struct {
	*wire.Conn
	reader  *wire.Reader // the back's, once the session runs
	at      *upstream
	binding scram.Binding
	pid     uint32
	secret  []byte // of the server's cancel key; empty: it gave none

	since    time.Time // when it had logged in: the server has not crashed after that
	timeline uint32    // of the primary that the session went to; 0: the server beside the node
}

// remote reports whether the leg is to the primary, from beside a standby.
func (l *leg) remote() bool { return l != nil && l.timeline != 0 }

// server is the leg that the session uses now.
func (ss *session) server() *leg { return ss.leg.Load() }

// use makes l the session's leg. Only the log-in and the back do so.
func (ss *session) use(l *leg) {
	ss.leg.Store(l)
	ss.sr = l.reader
}

// openLeg connects to a server.
func (s *Server) openLeg(ctx context.Context, up *upstream, mode SSLMode) (*leg, error) {
	nc, err := up.dial(ctx, s, mode)
	if err != nil {
		return nil, err
	}
	l := &leg{Conn: wire.NewConn(nc), at: up, binding: serverBinding(nc)}
	l.reader = wire.NewServerReader(l.Conn)
	l.reader.Charge(&s.held)
	return l, nil
}

// next reads one whole message, bounded; for use while no relay runs. The body is
// a copy.
func (l *leg) next(limit int) (byte, []byte, error) {
	for {
		typ, size, ok, err := l.reader.Header(0)
		switch {
		case err != nil:
			return 0, nil, err
		case !ok:
			if err := l.reader.Fill(); err != nil {
				return 0, nil, err
			}
			continue
		}
		if err := l.reader.Hold(size, limit); err != nil {
			return 0, nil, err
		}
		body := bytes.Clone(l.reader.Buffered()[wire.HeaderSize:size])
		l.reader.Discard(size)
		return typ, body, nil
	}
}

// drop closes a leg that nobody reads any more, with a goodbye: the server need
// not find out by itself.
func (l *leg) drop() {
	l.Net().SetWriteDeadline(time.Now().Add(dropTimeout)) //nolint:errcheck // closed next
	l.Write(wire.AppendEmpty(nil, wire.Terminate))        //nolint:errcheck // as above
	l.Close()                                             //nolint:errcheck // nothing depends on it
	l.reader.Release()
}

// dropTimeout bounds the goodbye: nothing else is on its way to that server.
const dropTimeout = 100 * time.Millisecond

// origin says from where a server sees this node, as pg_hba.conf would.
func (ss *session) origin(l *leg) string {
	nc := l.Net()
	if isUnix(nc) {
		return fmt.Sprintf("local connections of user %q to database %q", ss.user, ss.database)
	}
	host, _, _ := net.SplitHostPort(nc.LocalAddr().String()) // an address of TCP has both
	return fmt.Sprintf("host %s, user %q, database %q", host, ss.user, ss.database)
}

// An upstream is a server that sessions log in to, and how TLS is spoken with it.
type upstream struct {
	vault.Server
	tls *ServerTLS // nil: never
}

// upstream says how to reach a server.
func (s *Server) upstream(at vault.Server) *upstream {
	up := &upstream{Server: at}
	if s.cfg.ServerTLS != nil && at.Network != "unix" {
		up.tls = s.cfg.ServerTLS(at)
	}
	return up
}

// mode is the mode that counts: a socket never speaks TLS, and a log-in in clear to a
// remote server could not be bound.
func (up *upstream) mode() SSLMode {
	switch {
	case up.tls == nil:
		return SSLDisable
	case !up.isLocal() && (up.tls.Mode == SSLAllow || up.tls.Mode == SSLPrefer):
		return SSLRequire
	}
	return up.tls.Mode
}

// isLocal reports whether the server is on this host.
func (up *upstream) isLocal() bool { return up.Network == "unix" || isLoopbackHost(up.Addr) }

// dial connects, with TLS as a mode begins: the server's, or another that is tried.
func (up *upstream) dial(ctx context.Context, s *Server, mode SSLMode) (net.Conn, error) {
	nc, err := up.dialOnce(ctx, s, mode)
	if isNoTLS(err) && mode == SSLPrefer {
		return up.dialOnce(ctx, s, SSLDisable)
	}
	return nc, err
}

// mustBind reports whether the log-in has to be bound to the server's
// certificate: whoever writes bytes on that leg could have any record opened
// for a client of his, so a remote server is verified one way or the other.
func (up *upstream) mustBind() bool {
	return !up.isLocal() && up.mode() < SSLVerifyFull
}
