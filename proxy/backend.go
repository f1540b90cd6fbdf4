// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/scram"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// connectServer logs in to the local server as the client's own role and
// returns what the client is to see of it: AuthenticationOk, parameters, notices. The server's
// own FATAL is passed on as it is.
func (ss *session) connectServer(ctx context.Context) (greeting []byte, err error) {
	greeting, err = ss.logInToServer(ctx, false)
	var refused *serverFatal
	if errors.As(err, &refused) && !refused.begun && ss.srv.serverMode() == SSLAllow { // in clear; libpq then tries TLS
		ss.server.Close() //nolint:errcheck // it was refused
		if secured, again := ss.logInToServer(ctx, true); again == nil {
			return secured, nil
		}
	}
	return greeting, err
}

// logInToServer is one attempt of connectServer.
func (ss *session) logInToServer(ctx context.Context, forceTLS bool) (greeting []byte, err error) {
	s := ss.srv
	nc, binding, err := s.dialServer(ctx, forceTLS)
	if err != nil {
		s.cfg.Log.Warn("the server cannot be reached", "server", s.cfg.LocalAddr, "error", err.Error())
		return nil, fatalError(stateCannotConnect, "the PostgreSQL server beside this node cannot be reached",
			"Start it, or see VAULT_LOCAL_PG and VAULT_PG_SSLMODE on the node; its log has the reason.")
	}
	ss.server = wire.NewConn(nc)
	if err := nc.SetDeadline(deadlineOf(ctx)); err != nil {
		return nil, err
	}
	if ss.sr != nil {
		ss.sr.Release()
	}
	ss.sr = wire.NewServerReader(ss.server)
	ss.sr.Charge(&s.held)
	if _, err := ss.server.Write(wire.AppendStartup(nil, ss.params)); err != nil {
		return nil, err
	}
	l := &serverLogin{ss: ss, binding: binding}
	defer l.close()
	for !l.ready {
		typ, body, err := ss.nextServer()
		if err != nil {
			return nil, fatalError(stateConnection, "the server closed the connection during the log-in", "")
		}
		if err := l.message(typ, body); err != nil {
			return nil, err
		}
	}
	if ss.replication {
		return l.greeting, nil
	}
	return l.greeting, ss.readCatalog()
}

// deadlineOf is the zero time, which bounds nothing, if ctx has no deadline.
func deadlineOf(ctx context.Context) time.Time {
	dl, _ := ctx.Deadline()
	return dl
}

// nextServer reads one whole message, bounded; for use before the relay runs.
// The body is a copy.
func (ss *session) nextServer() (byte, []byte, error) {
	for {
		typ, size, ok, err := ss.sr.Header(0)
		switch {
		case err != nil:
			return 0, nil, err
		case !ok:
			if err := ss.sr.Fill(); err != nil {
				return 0, nil, err
			}
			continue
		}
		if err := ss.sr.Hold(size, wire.MaxLogin); err != nil {
			return 0, nil, err
		}
		body := bytes.Clone(ss.sr.Buffered()[wire.HeaderSize:size])
		ss.sr.Discard(size)
		return typ, body, nil
	}
}

// serverLogin is one log-in by ClientKey.
type serverLogin struct {
	ss       *session
	binding  scram.Binding
	client   *scram.Client
	greeting []byte
	ready    bool
}

func (l *serverLogin) close() {
	if l.client != nil {
		l.client.Close()
	}
}

func (l *serverLogin) message(typ byte, body []byte) error {
	switch typ {
	case wire.Authentication:
		return l.authentication(body)
	case wire.ErrorResponse: // behind AuthenticationOk, of what the log-in asked for
		if refusesClientAddr(body) {
			l.ss.srv.cfg.Log.Error("VAULT_LOCAL_PG is a pooler, not a PostgreSQL server: it refuses a startup parameter")
			return pooled()
		}
		return &serverFatal{raw: wire.AppendMessage(l.greeting, typ, body), begun: l.client != nil}
	case wire.NoticeResponse:
		l.greeting = wire.AppendMessage(l.greeting, typ, body)
	case wire.ParameterStatus:
		l.ss.parameter(body)
		l.greeting = wire.AppendMessage(l.greeting, typ, body)
	case wire.BackendKeyData:
		if len(body) < 8 || len(body) > 4+256 {
			return fatalError(stateProtocol, "the server sent an invalid cancel key", "")
		}
		l.ss.serverPID, l.ss.serverSecret = binary.BigEndian.Uint32(body), bytes.Clone(body[4:])
	case wire.ReadyForQuery:
		if len(body) != 1 {
			return fatalError(stateProtocol, "the server sent an invalid message during the log-in", "")
		}
		l.ss.state, l.ready = body[0], true
	case wire.NegotiateVersion:
	default:
		return fatalError(stateProtocol, "the server sent an unexpected message during the log-in", "")
	}
	return nil
}

// serverFatal is a FATAL of the server's, to be passed on untouched, with what
// comes before it.
type serverFatal struct {
	raw   []byte
	begun bool // the server had asked for the password
}

func (e *serverFatal) Error() string { return "the server refused the log-in" }

func (l *serverLogin) authentication(body []byte) error {
	if len(body) < 4 {
		return fatalError(stateProtocol, "the server sent an invalid authentication request", "")
	}
	data := body[4:]
	switch code := binary.BigEndian.Uint32(body); code {
	case authSASL:
		return l.begin(data)
	case authSASLContinue:
		if l.client == nil {
			break
		}
		var final []byte
		var err error
		erase.Do(func() { final, err = l.client.Next(data) })
		if err != nil {
			return l.failed(err)
		}
		return l.send(final)
	case authSASLFinal:
		if l.client == nil {
			break
		}
		if err := l.client.Done(data); err != nil {
			return l.failed(err)
		}
		return nil
	case authOK:
		if l.client != nil && l.client.Authenticated() || l.ss.srv.cfg.AllowTrust {
			l.greeting = wire.AppendMessage(l.greeting, wire.Authentication, []byte{0, 0, 0, authOK})
			return nil
		}
		return fatalError(stateAuthorization, "the server let this node in without a password, so it has not proved who it is",
			"A pg_hba.conf line with trust, peer or cert matches "+l.ss.origin()+": make its method scram-sha-256, or set VAULT_PG_ALLOW_TRUST=true on the node.")
	case authCleartext, authMD5:
		return fatalError(stateAuthorization, "the server asks this node for a password in a form that it does not have",
			"Make the pg_hba.conf line that matches "+l.ss.origin()+" scram-sha-256, and set the role's password again with password_encryption = scram-sha-256.")
	}
	return fatalError(stateAuthorization, "the server asks this node for an authentication method that cannot be passed through",
		"Only scram-sha-256 works through a node: see the pg_hba.conf line that matches "+l.ss.origin()+".")
}

// begin answers the server's list of mechanisms.
func (l *serverLogin) begin(data []byte) error {
	var mechanisms []string
	for len(data) > 0 && data[0] != 0 { // an empty list ends pgproto3 v2 in a loop
		m, rest, ok := wire.CString(data)
		if !ok {
			return fatalError(stateProtocol, "the server sent an invalid authentication request", "")
		}
		mechanisms, data = append(mechanisms, m), rest
	}
	client, err := scram.NewClient(l.ss.clientKey, l.ss.scramVerifier, mechanisms, l.binding)
	if err != nil {
		return l.failed(err)
	}
	l.client = client
	if l.ss.srv.mustBind() && client.Mechanism() != scram.MechanismPlus {
		return fatalError(stateAuthorization, "the connection to the server is neither verified nor bound to its certificate",
			"Set VAULT_PG_SSLMODE=verify-full on the node, or use a server certificate that SCRAM can be bound to.")
	}
	first := client.First()
	out := wire.AppendString(nil, client.Mechanism())
	return l.send(wire.AppendParam(out, first))
}

func (l *serverLogin) send(body []byte) error {
	_, err := l.ss.server.Write(wire.AppendMessage(nil, wire.Password, body))
	return err
}

func (l *serverLogin) failed(err error) error {
	l.ss.srv.cfg.Log.Warn("the log-in to the server failed", "role", l.ss.user, "error", err.Error())
	switch {
	case errors.Is(err, scram.ErrVerifierDiffers):
		return fatalError(stateAuthorization, "the server has another password for this role than the one that was checked",
			"The password was set again just now: connect again.")
	case errors.Is(err, scram.ErrServerSignature):
		return fatalError(stateAuthorization, "the server could not prove that it knows this role's password", "The node's VAULT_LOCAL_PG may point to another server.")
	}
	return fatalError(stateAuthorization, "the log-in to the server failed", "The node's log has the reason.")
}

// origin says from where the server sees this node, as pg_hba.conf would.
func (ss *session) origin() string {
	nc := ss.server.Net()
	if isUnix(nc) {
		return fmt.Sprintf("local connections of user %q to database %q", ss.user, ss.database)
	}
	return fmt.Sprintf("host %s, user %q, database %q", strings.TrimSuffix(nc.LocalAddr().String(), portOf(nc.LocalAddr().String())), ss.user, ss.database)
}

func portOf(addr string) string {
	if i := strings.LastIndexByte(addr, ':'); i >= 0 {
		return addr[i:]
	}
	return ""
}
