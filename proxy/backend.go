// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/scram"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// connectServer logs in to the local server as the client's own role and
// returns what the client is to see of it: AuthenticationOk, parameters, notices. The server's
// own FATAL is passed on as it is.
func (ss *session) connectServer(ctx context.Context) (greeting []byte, err error) {
	l, err := ss.logIn(ctx, ss.srv.local)
	var away *unreachable
	switch {
	case errors.As(err, &away):
		return nil, fatalError(stateCannotConnect, "the PostgreSQL server beside this node cannot be reached",
			"Start it, or see VAULT_LOCAL_PG and VAULT_PG_SSLMODE on the node; its log has the reason.")
	case err != nil:
		return nil, err
	}
	ss.use(l.leg)
	ss.reported, ss.state = l.reported, l.state
	for _, b := range l.reports {
		ss.report(b)
	}
	if ss.replication {
		return l.greeting, nil
	}
	return l.greeting, ss.readCatalog()
}

// An unreachable server answered nothing, or not as a server does.
type unreachable struct{ err error }

func (e *unreachable) Error() string { return e.err.Error() }
func (e *unreachable) Unwrap() error { return e.err }

// logIn makes a leg to a server. A mode that leaves TLS open tries the other way if
// the first one is refused, as libpq does.
func (ss *session) logIn(ctx context.Context, up *upstream) (*serverLogin, error) {
	mode := up.mode()
	l, err := ss.logInOnce(ctx, up, mode)
	var refused *serverFatal
	if !errors.As(err, &refused) || refused.begun {
		return l, err
	}
	other := mode
	switch {
	case mode == SSLAllow:
		other = SSLRequire
	case mode == SSLPrefer && refused.overTLS:
		other = SSLDisable
	}
	if other != mode {
		if reached, again := ss.logInOnce(ctx, up, other); again == nil {
			return reached, nil
		}
	}
	return l, err
}

func (ss *session) logInOnce(ctx context.Context, up *upstream, mode SSLMode) (*serverLogin, error) {
	s := ss.srv
	to, err := s.openLeg(ctx, up, mode)
	if err != nil {
		s.cfg.Log.Warn("the server cannot be reached", "server", up.Addr, "error", err.Error())
		return nil, &unreachable{err}
	}
	l := &serverLogin{ss: ss, leg: to}
	defer l.close()
	if err := l.run(ctx); err != nil {
		to.Close() //nolint:errcheck // it was refused
		to.reader.Release()
		return nil, err
	}
	return l, nil
}

// run is the conversation up to the first ReadyForQuery. The leg keeps its
// deadline.
func (l *serverLogin) run(ctx context.Context) (err error) {
	if l.leg.SetDeadline(deadlineOf(ctx)) != nil {
		return errClosedAtLogin
	}
	stop := context.AfterFunc(ctx, func() { l.leg.SetDeadline(longAgo) }) //nolint:errcheck // closed next
	defer func() {
		if !stop() && err == nil { // the bound may yet be set on what would be in use
			err = errClosedAtLogin
		}
	}()
	if _, err := l.leg.Write(wire.AppendStartup(nil, l.ss.params)); err != nil {
		return errClosedAtLogin
	}
	for !l.ready {
		typ, body, err := l.leg.next(wire.MaxLogin)
		if err != nil {
			return errClosedAtLogin
		}
		if err := l.message(typ, body); err != nil {
			return err
		}
	}
	l.leg.since = time.Now()
	return nil
}

var errClosedAtLogin = fatalError(stateConnection, "the server closed the connection during the log-in", "")

// deadlineOf is the zero time, which bounds nothing, if ctx has no deadline.
func deadlineOf(ctx context.Context) time.Time {
	dl, _ := ctx.Deadline()
	return dl
}

// serverLogin is one log-in by ClientKey.
type serverLogin struct {
	ss       *session
	leg      *leg
	client   *scram.Client
	greeting []byte
	reported reported
	state    byte
	letIn    bool // AuthenticationOk has come
	ready    bool
	reports  [][]byte   // for the audit
	catalog  catalog    // of a second log-in
	tells    [][][]byte // as above: what reportedQuery says
}

func (l *serverLogin) close() {
	if l.client != nil {
		l.client.Close()
	}
}

func (l *serverLogin) message(typ byte, body []byte) error {
	if !l.letIn && !beforeOK(typ) {
		return errUnexpected // whatever else it says, it has not proved who it is
	}
	switch typ {
	case wire.Authentication:
		return l.authentication(body)
	case wire.ErrorResponse: // behind AuthenticationOk, of what the log-in asked for
		if refusesClientAddr(body) {
			l.ss.srv.cfg.Log.Error("VAULT_LOCAL_PG is a pooler, not a PostgreSQL server: it refuses a startup parameter")
			return pooled()
		}
		return &serverFatal{raw: wire.AppendMessage(l.greeting, typ, body), body: body, begun: l.client != nil, overTLS: l.leg.binding.TLS}
	case wire.NoticeResponse:
		l.greeting = wire.AppendMessage(l.greeting, typ, body)
	case wire.ParameterStatus:
		if isReport(body) { // of a trigger on log-ins
			l.reports = append(l.reports, bytes.Clone(body))
			break
		}
		l.reported.note(body)
		l.greeting = wire.AppendMessage(l.greeting, typ, body)
	case wire.BackendKeyData:
		if len(body) < 8 || len(body) > 4+256 {
			return fatalError(stateProtocol, "the server sent an invalid cancel key", "")
		}
		l.leg.pid, l.leg.secret = binary.BigEndian.Uint32(body), bytes.Clone(body[4:])
	case wire.ReadyForQuery:
		if len(body) != 1 {
			return fatalError(stateProtocol, "the server sent an invalid message during the log-in", "")
		}
		l.state, l.ready = body[0], true
	case wire.NegotiateVersion:
	default:
		return errUnexpected
	}
	return nil
}

// beforeOK reports a message that a server sends before AuthenticationOk.
func beforeOK(typ byte) bool {
	return typ == wire.Authentication || typ == wire.ErrorResponse || typ == wire.NegotiateVersion
}

var errUnexpected = fatalError(stateProtocol, "the server sent an unexpected message during the log-in", "")

// serverFatal is a FATAL of the server's, to be passed on untouched, with what
// comes before it.
type serverFatal struct {
	raw   []byte
	body  []byte // of the error itself
	begun bool   // the server had asked for the password

	overTLS bool
}

func (e *serverFatal) Error() string { return "the server refused the log-in" }

func (l *serverLogin) authentication(body []byte) error {
	if len(body) < 4 {
		return fatalError(stateProtocol, "the server sent an invalid authentication request", "")
	}
	if l.letIn {
		return errUnexpected
	}
	data := body[4:]
	switch code := binary.BigEndian.Uint32(body); code {
	case authSASL:
		if l.client != nil {
			break
		}
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
		proven, trust := l.client != nil && l.client.Authenticated(), l.ss.srv.cfg.AllowTrust
		if trust && !proven && l.leg.at.mustBind() {
			return fatalError(stateAuthorization, errUnbound.message,
				"VAULT_PG_ALLOW_TRUST counts beyond the node's host only with VAULT_PG_SSLMODE=verify-full. Or make the line of pg_hba.conf that matches "+l.ss.origin(l.leg)+" scram-sha-256.")
		}
		if proven || trust {
			l.letIn = true
			l.greeting = wire.AppendMessage(l.greeting, wire.Authentication, []byte{0, 0, 0, authOK})
			return nil
		}
		return fatalError(stateAuthorization, "the server let this node in without a password, so it has not proved who it is",
			"A pg_hba.conf line with trust, peer or cert matches "+l.ss.origin(l.leg)+": make its method scram-sha-256, or set VAULT_PG_ALLOW_TRUST=true on the node.")
	case authCleartext, authMD5:
		return fatalError(stateAuthorization, "the server asks this node for a password in a form that it does not have",
			"Make the pg_hba.conf line that matches "+l.ss.origin(l.leg)+" scram-sha-256, and set the role's password again with password_encryption = scram-sha-256.")
	}
	return fatalError(stateAuthorization, "the server asks this node for an authentication method that cannot be passed through",
		"Only scram-sha-256 works through a node: see the pg_hba.conf line that matches "+l.ss.origin(l.leg)+".")
}

var errUnbound = fatalError(stateAuthorization, "the connection to the server is neither verified nor bound to its certificate",
	"Set VAULT_PG_SSLMODE=verify-full on the node, or use a server certificate that SCRAM can be bound to.")

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
	client, err := scram.NewClient(l.ss.clientKey, l.ss.scramVerifier, mechanisms, l.leg.binding)
	if err != nil {
		return l.failed(err)
	}
	l.client = client
	if l.leg.at.mustBind() && client.Mechanism() != scram.MechanismPlus {
		return errUnbound
	}
	first := client.First()
	out := wire.AppendString(nil, client.Mechanism())
	return l.send(wire.AppendParam(out, first))
}

func (l *serverLogin) send(body []byte) error {
	_, err := l.leg.Write(wire.AppendMessage(nil, wire.Password, body))
	return err
}

func (l *serverLogin) failed(err error) error {
	l.ss.srv.cfg.Log.Warn("the log-in to the server failed", "role", l.ss.user, "error", err.Error())
	switch {
	case errors.Is(err, scram.ErrVerifierDiffers):
		return fatalError(stateAuthorization, "the server has another password for this role than the one that was checked",
			"The password was set again, or is not valid any more: connect again.")
	case errors.Is(err, scram.ErrServerSignature):
		return fatalError(stateAuthorization, "the server could not prove that it knows this role's password", "The address "+l.leg.at.Addr+" on the node (VAULT_LOCAL_PG, VAULT_PG_HOSTS) may be another server's.")
	}
	return fatalError(stateAuthorization, "the log-in to the server failed", "The node's log has the reason.")
}
