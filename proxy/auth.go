// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/scram"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// Authentication requests (PostgreSQL manual, "Message Formats").
const (
	authOK           = 0
	authCleartext    = 3
	authMD5          = 5
	authSASL         = 10
	authSASLContinue = 11
	authSASLFinal    = 12
)

// maxLoginWait is how long a log-in may be held up because others of its address
// have failed.
const maxLoginWait = 10 * time.Second

var errTooManyFailures = fatalError(stateTooMany, "too many log-ins from your address have failed",
	"Try again later. VAULT_FAILED_LOGINS_PER_SEC on the node bounds them.")

// payAndAuthenticate authenticates the client. Each log-in makes the node ask
// the server for a verifier, of which the server gives so many a second: who
// fails too often is slowed down, so that strangers cannot use them up.
func (ss *session) payAndAuthenticate(ctx context.Context, nc net.Conn) error {
	s := ss.srv
	p := s.logins.pay(ss.peer, float64(s.limits().FailedLogins), time.Now())
	if p.wait > maxLoginWait {
		p.giveBack()
		s.turnAway("login", ss.peer)
		return errTooManyFailures
	}
	if p.wait > 0 {
		ss.guest.Waits() // it may be the one to go
		select {
		case <-time.After(p.wait):
		case <-ctx.Done():
			p.giveBack()
			return ctx.Err()
		}
		if !ss.guest.Inside() {
			p.giveBack()
			return errEnded
		}
		ss.guest.Served()
	}
	verifier, doomed, err := ss.verifier(ctx)
	if err != nil {
		p.giveBack()
		return err
	}
	if err := ss.authenticate(nc, verifier, doomed); err != nil {
		return err
	}
	p.succeeded(time.Now())
	return nil
}

// authenticate runs SCRAM with the client against the server's own verifier,
// fetched anew at each log-in, and keeps the ClientKey for the session's own
// log-ins. Whoever cannot pass hears what a wrong password hears, in the same
// steps; the reason is one line of the node's log.
func (ss *session) authenticate(nc net.Conn, verifier scram.Verifier, doomed string) error {
	srv := scram.NewServer(verifier, doomed != "", ss.srv.clientBinding(nc))
	defer srv.Close()
	if err := ss.sasl(srv); err != nil {
		var se *scram.Error
		switch {
		case errors.Is(err, scram.ErrPassword):
			if doomed == "" {
				doomed = "the password is wrong"
			}
			ss.srv.cfg.Log.Warn("log-in refused", "role", ss.user, "database", ss.database, "client", ss.peerText(), "reason", doomed)
			return fatalError(statePassword, fmt.Sprintf("password authentication failed for user %q", ss.user), "")
		case errors.As(err, &se):
			e := fatalError(se.SQLState, se.Message, "")
			e.detail = se.Detail
			return e
		}
		return err
	}
	ss.scramVerifier = verifier
	ss.clientKey = bytes.Clone(srv.ClientKey())
	return nil
}

// verifier fetches the role's verifier. A role that cannot pass gets a mock one
// and the reason for the log.
func (ss *session) verifier(ctx context.Context) (v scram.Verifier, doomed string, err error) {
	text, found, err := ss.srv.cfg.Vault.LoginVerifier(ctx, ss.user)
	if err != nil {
		failed := ss.srv.uncheckable("the service role cannot fetch verifiers", err)
		if errors.Is(err, vault.ErrPooler) {
			failed = pooled()
		}
		return v, "", failed
	}
	mock := func(why string) (scram.Verifier, string, error) {
		return scram.Mock(ss.srv.cfg.MockSecret, ss.user), why, nil
	}
	if !found {
		return mock("no SCRAM-SHA-256 verifier: the role does not exist or is NOLOGIN; or its password is missing, expired or stored as md5 " +
			"(set it again with password_encryption = scram-sha-256); or it is a superuser, REPLICATION or BYPASSRLS role (hyperion_vault.proxy_login = all lets these in)")
	}
	v, err = scram.ParseVerifier(text)
	if err != nil {
		return mock("its password is not stored as a SCRAM-SHA-256 verifier: set password_encryption = scram-sha-256 and the password again")
	}
	return v, "", nil
}

// sasl moves the messages of one SCRAM conversation.
func (ss *session) sasl(srv *scram.Server) error {
	offer := binary.BigEndian.AppendUint32(nil, authSASL)
	for _, m := range srv.Mechanisms() {
		offer = wire.AppendString(offer, m)
	}
	if err := ss.sendAuth(append(offer, 0)); err != nil {
		return err
	}
	body, err := ss.readSASL()
	if err != nil {
		return err
	}
	mechanism, initial, err := initialResponse(body)
	if err != nil {
		return err
	}
	reply, err := srv.First(mechanism, initial)
	if err == nil && initial == nil { // no initial response: an empty challenge asks for it
		if body, err = ss.challenge(reply); err != nil {
			return err
		}
		reply, err = srv.First(mechanism, body)
	}
	if err != nil {
		return err
	}
	if body, err = ss.challenge(reply); err != nil {
		return err
	}
	erase.Do(func() { reply, err = srv.Final(body) })
	if err != nil {
		return err
	}
	return ss.sendAuth(append(binary.BigEndian.AppendUint32(nil, authSASLFinal), reply...))
}

// challenge sends the next step and reads the client's answer.
func (ss *session) challenge(data []byte) ([]byte, error) {
	if err := ss.sendAuth(append(binary.BigEndian.AppendUint32(nil, authSASLContinue), data...)); err != nil {
		return nil, err
	}
	return ss.readSASL()
}

func (ss *session) sendAuth(body []byte) error {
	_, err := ss.client.Write(wire.AppendMessage(nil, wire.Authentication, body))
	return err
}

// readSASL reads one password message, bounded as PostgreSQL bounds it.
func (ss *session) readSASL() ([]byte, error) {
	ss.guest.Waits()
	defer ss.guest.Served()
	for {
		typ, size, ok, err := ss.cr.Header(0)
		switch {
		case err != nil:
			return nil, fatalError(stateProtocol, "invalid message during authentication", "")
		case !ok:
			if err := ss.cr.Fill(); err != nil {
				return nil, err
			}
			continue
		case typ != wire.Password:
			return nil, fatalError(stateProtocol, fmt.Sprintf("expected SASL response, got message type %d", typ), "")
		case size-1 > wire.MaxSASL: // to the server this is a log-in that failed
			return nil, scram.ErrPassword
		}
		if err := ss.cr.Hold(size, size); err != nil {
			return nil, err
		}
		body := bytes.Clone(ss.cr.Buffered()[wire.HeaderSize:size])
		ss.cr.Discard(size)
		return body, nil
	}
}

// initialResponse splits SASLInitialResponse, which pgproto3 v2 panics on if it
// ends after the mechanism's name.
func initialResponse(body []byte) (mechanism string, data []byte, err error) {
	mechanism, rest, ok := wire.CString(body)
	if !ok {
		return "", nil, fatalError(stateProtocol, "invalid string in message", "")
	}
	if len(rest) < 4 {
		return "", nil, fatalError(stateProtocol, "insufficient data left in message", "")
	}
	n := int32(binary.BigEndian.Uint32(rest)) //nolint:gosec // -1 means none
	data = rest[4:]
	if n == -1 && len(data) == 0 {
		return mechanism, nil, nil
	}
	if n < 0 || int(n) > len(data) {
		return "", nil, fatalError(stateProtocol, "insufficient data left in message", "")
	}
	if int(n) != len(data) {
		return "", nil, fatalError(stateProtocol, "invalid message format", "")
	}
	return mechanism, data, nil
}

func (ss *session) peerText() string {
	if !ss.peer.IsValid() {
		return "socket"
	}
	return ss.peer.String()
}
