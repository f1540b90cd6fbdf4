// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/lobby"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// handle takes one client from its first byte to the end of its log-in. It
// returns nil if there is no session to run.
func (s *Server) handle(accepted net.Conn, g *lobby.Guest) *session {
	s.tune(accepted)
	ctx, stop := context.WithTimeout(s.ctx, s.limits().Handshake)
	defer stop()
	if err := accepted.SetDeadline(deadlineOf(ctx)); err != nil {
		return nil
	}
	nc, req, err := s.admit(ctx, accepted, g)
	switch {
	case err != nil:
		s.refuse(nc, err)
		return nil
	case req == nil:
		return nil // a health check that sent nothing
	case req.Code == wire.CodeCancel:
		g.Advances() // to a full lobby it gives way
		s.cancelRequest(req, lobby.Peer(accepted))
		return nil
	case s.isDraining():
		s.metrics.logins.WithLabelValues("refused").Inc()
		s.refuse(nc, errDraining)
		return nil
	}
	g.Served()
	ss := &session{srv: s, accepted: accepted, guest: g, client: wire.NewConn(nc), peer: lobby.Peer(accepted), params: req.Params}
	if !s.letIn(nc, ss, func() error { return ss.login(ctx, nc, req) }) {
		return nil
	}
	return ss
}

// letIn runs a log-in. Unless it succeeds, the session's place and both its
// connections are given back, after a panic too.
func (s *Server) letIn(nc net.Conn, ss *session, login func() error) (in bool) {
	defer func() {
		if !in {
			s.unregister(ss) // it may have left when all was done but the greeting
			ss.close()
		}
	}()
	if err := login(); err != nil {
		s.metrics.logins.WithLabelValues("refused").Inc()
		ss.noteLogin(err)
		s.refuse(nc, err)
		return false
	}
	s.metrics.logins.WithLabelValues("ok").Inc()
	return true
}

// refuse tells the client why it cannot go on. What is not an answer for it
// (its own disconnect) is dropped.
func (s *Server) refuse(nc net.Conn, err error) {
	var mine *sqlError
	var server *serverFatal
	var msg []byte
	switch {
	case nc == nil:
		return
	case errors.As(err, &mine):
		msg = mine.append(nil)
	case errors.As(err, &server):
		msg = server.raw
	default:
		return
	}
	nc.SetWriteDeadline(time.Now().Add(time.Second)) //nolint:errcheck // the last word, if the client hears it
	nc.Write(msg)                                    //nolint:errcheck // as above
}

// admit decides about TLS and reads the startup packet. Encryption requests may
// come in either order, each at most once (PostgreSQL's
// ProcessStartupPacket). Not one byte is read beyond them, so nothing sent in
// clear can slip into the encrypted session (CVE-2021-23214).
func (s *Server) admit(ctx context.Context, accepted net.Conn, g *lobby.Guest) (net.Conn, *wire.Startup, error) {
	nc, direct, err := s.firstByte(ctx, accepted, g)
	if nc == nil || err != nil {
		return nil, nil, err
	}
	sslDone, gssDone := direct, direct
	for {
		req, err := wire.ReadStartup(nc, s.limits().MaxStartup)
		nc = bare(nc, accepted)
		switch {
		case errors.Is(err, io.EOF) && !sslDone:
			return nil, nil, nil
		case errors.Is(err, wire.ErrStartupLayout):
			return nc, nil, fatalError(stateProtocol, err.Error(), "")
		case err != nil:
			return nil, nil, err
		}
		switch {
		case req.Code == wire.CodeSSL && !sslDone:
			sslDone = true
			g.Advances()
			if nc, err = s.answerSSL(ctx, nc); err != nil {
				return nil, nil, err
			}
			g.Advances()
		case req.Code == wire.CodeGSSENC && !gssDone:
			gssDone = true
			if _, err := nc.Write([]byte{'N'}); err != nil {
				return nil, nil, err
			}
		case req.Code == wire.CodeCancel:
			return nc, req, nil
		case req.Code>>16 != 3:
			return nc, nil, unsupported(req.Code)
		default:
			return nc, req, nil
		}
	}
}

// firstByte recognises direct TLS: a TLS record where a first packet should be.
// nc is nil for a health check, which sends nothing.
func (s *Server) firstByte(ctx context.Context, accepted net.Conn, g *lobby.Guest) (nc net.Conn, direct bool, err error) {
	if s.cfg.TLS == nil {
		return accepted, false, nil
	}
	var first [1]byte
	if n, _ := io.ReadFull(accepted, first[:]); n == 0 {
		return nil, false, nil
	}
	nc = &prefixConn{Conn: wire.NewSocket(accepted), first: first[:]}
	if first[0] != tlsHandshake {
		return nc, false, nil
	}
	tc, err := s.clientTLS(ctx, nc, true)
	if err != nil {
		return nil, false, err
	}
	g.Advances()
	return tc, true, nil
}

// tlsHandshake is the type of a TLS record that begins a handshake.
const tlsHandshake = 0x16

// unsupported answers a major version that is not 3. A client that speaks an
// older one cannot read an ErrorResponse: it gets a text, as from PostgreSQL.
func unsupported(code uint32) error {
	e := fatalError(stateFeature, fmt.Sprintf("unsupported frontend protocol %d.%d: server supports 3.0 to 3.2", code>>16, code&0xffff), "")
	if code>>16 >= 3 {
		return e
	}
	return &serverFatal{raw: []byte("EFATAL:  " + e.message + "\n\x00")}
}

// bare is the socket itself in place of a wrapper that has nothing left to give.
func bare(nc, accepted net.Conn) net.Conn {
	if p, ok := nc.(*prefixConn); ok && len(p.first) == 0 {
		return accepted
	}
	return nc
}

func (s *Server) answerSSL(ctx context.Context, nc net.Conn) (net.Conn, error) {
	if s.cfg.TLS == nil || isUnix(nc) {
		_, err := nc.Write([]byte{'N'})
		return nc, err
	}
	if _, err := nc.Write([]byte{'S'}); err != nil {
		return nil, err
	}
	return s.clientTLS(ctx, nc, false)
}

func isUnix(nc net.Conn) bool { return nc.LocalAddr().Network() == "unix" }

// isLocalPeer reports whether the client is on this host, where TLS protects
// nothing.
func (ss *session) isLocalPeer() bool { return !ss.peer.IsValid() || ss.peer.IsLoopback() }

// login negotiates the protocol, authenticates the client, logs in to the
// server as it, and tells the client that it may begin.
func (ss *session) login(ctx context.Context, nc net.Conn, req *wire.Startup) error {
	s := ss.srv
	_, ss.tls = nc.(*tls.Conn)
	ss.user, ss.database, ss.replication = truncateName(req.Get("user")), truncateName(req.Get("database")), isReplication(req.Get("replication"))
	if ss.user == "" {
		return fatalError(stateAuthorization, "no PostgreSQL user name specified in startup packet", "")
	}
	if ss.database == "" {
		ss.database = ss.user
	}
	if s.cfg.RequireTLS == TLSForAll && s.cfg.TLS != nil && !ss.tls && !ss.isLocalPeer() {
		e := fatalError(stateAuthorization, "this node asks for an encrypted connection", "Connect with sslmode=require (VAULT_REQUIRE_TLS=all on the node).")
		e.reason = "no_tls"
		return e
	}
	if err := s.room(ss); err != nil {
		return err
	}
	if err := ss.negotiate(req); err != nil {
		return err
	}
	ss.cr = wire.NewClientReader(ss.client)
	ss.cr.Charge(&s.held)
	if err := ss.payAndAuthenticate(ctx, nc); err != nil {
		return err
	}
	if err := s.admitUser(ss); err != nil {
		return err
	}
	if err := s.admitAddress(ctx, ss); err != nil {
		return err
	}
	ss.params = s.startupParams(ss)
	ss.begin()
	greeting, err := ss.connectServer(ctx)
	if err != nil {
		return err
	}
	if err := s.admitRole(ss); err != nil {
		return err
	}
	if err := ss.recordNow(); err != nil { //nolint:contextcheck // it is not the log-in's bound that counts
		return err
	}
	if err := s.register(ss); err != nil {
		return err
	}
	if ss.replaced(s.fence()) { // known by now to those who look for such
		return errLocalReplaced
	}
	out := wire.AppendMessage(greeting, wire.BackendKeyData, append(binary.BigEndian.AppendUint32(nil, ss.key.pid), ss.handed()...))
	out = wire.AppendReady(out, ss.state)
	ss.noteLogin(nil)
	if err := ss.local(out); err != nil {
		return err
	}
	return ss.clearDeadlines()
}

// negotiate settles the protocol version. A minor version or an option that we
// do not know is answered, never refused (PostgreSQL manual,
// NegotiateProtocolVersion).
func (ss *session) negotiate(req *wire.Startup) error {
	ss.version = min(req.Code, wire.Version32)
	options := req.Options()
	if req.Code <= wire.Version32 && len(options) == 0 {
		return nil
	}
	out, mark := wire.Begin(nil, wire.NegotiateVersion)
	out = binary.BigEndian.AppendUint32(out, ss.version)
	out = binary.BigEndian.AppendUint32(out, uint32(len(options))) //nolint:gosec // a startup packet has 10,000 bytes
	for _, o := range options {
		out = wire.AppendString(out, o)
	}
	_, err := ss.client.Write(wire.End(out, mark))
	return err
}

// truncateName cuts a role's or database's name as the server does.
func truncateName(s string) string {
	if len(s) > maxName {
		return s[:maxName]
	}
	return s
}

// isReplication reads the startup parameter exactly as the server does
// (backend_startup.c, parse_bool): on a session that only the node took for a
// replication connection, nothing would be sealed. What neither knows the
// server refuses.
func isReplication(v string) bool {
	if v == "database" || v == "1" || strings.EqualFold(v, "on") {
		return true
	}
	for _, word := range []string{"true", "yes"} {
		if v != "" && len(v) <= len(word) && strings.EqualFold(v, word[:len(v)]) {
			return true
		}
	}
	return false
}

// clearDeadlines ends the time bound of the handshake on both legs.
func (ss *session) clearDeadlines() error {
	return errors.Join(ss.client.SetDeadline(time.Time{}), ss.server().SetDeadline(time.Time{}))
}
