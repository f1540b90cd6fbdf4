// SPDX-License-Identifier: GPL-3.0-or-later

package scram

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strconv"
)

// serverState is where a [Server] stands:
//
//	serverNew ──First(msg)──► serverChallenged ──Final──► serverDone
//	    │  ▲ First(nil)              │
//	    └──┘                         │
//	    └────────── any error ───────┴──► serverFailed ◄── Close
type serverState int

const (
	serverNew serverState = iota
	serverChallenged
	serverDone
	serverFailed
)

// Server is the server's side of one log-in.
type Server struct {
	state   serverState
	v       Verifier
	doomed  bool
	binding Binding
	nonce   string // our part; set by New, replaced only by tests

	mechanism   string // the client's choice, fixed by the first First
	flag        byte   // its channel-binding flag: n, y or p
	fullNonce   []byte
	clientBare  []byte // client-first-message-bare
	serverFirst []byte
	clientKey   []byte
}

// NewServer starts a log-in against v. doomed: the log-in runs the same course
// and does the same work, but ends with [ErrPassword] whatever the proof is;
// for [Mock] verifiers and for roles whose password has expired.
func NewServer(v Verifier, doomed bool, b Binding) *Server {
	return &Server{v: v.clone(), doomed: doomed, binding: b, nonce: newNonce()}
}

// Mechanisms returns what to offer in AuthenticationSASL, the stronger first.
func (s *Server) Mechanisms() []string {
	if s.binding.plus() {
		return []string{MechanismPlus, MechanismPlain}
	}
	return []string{MechanismPlain}
}

// First takes mechanism and initial response of SASLInitialResponse and returns
// the data of AuthenticationSASLContinue. A client may send no initial response
// (length -1; msg is nil, which differs from empty): the reply is then empty,
// and the client's next message goes to First again. Errors are *Error.
func (s *Server) First(mechanism string, msg []byte) ([]byte, error) {
	if s.state != serverNew {
		return nil, s.fail(malformed("Message out of order."))
	}
	if !s.choose(mechanism) {
		return nil, s.fail(&Error{SQLState: stateProtocol, Message: "client selected an invalid SASL authentication mechanism"})
	}
	if msg == nil {
		return []byte{}, nil
	}
	if err := s.readFirst(msg); err != nil {
		return nil, s.fail(err)
	}
	out := make([]byte, 0, len(s.fullNonce)+64+base64.StdEncoding.EncodedLen(len(s.v.Salt)))
	out = append(out, "r="...)
	out = append(out, s.fullNonce...)
	out = append(out, ",s="...)
	out = base64.StdEncoding.AppendEncode(out, s.v.Salt)
	out = append(out, ",i="...)
	out = strconv.AppendInt(out, int64(s.v.Iterations), 10)
	s.serverFirst = out
	s.state = serverChallenged
	return bytes.Clone(out), nil
}

// choose accepts a mechanism that was offered, and the same one ever after.
func (s *Server) choose(mechanism string) bool {
	if s.mechanism != "" {
		return mechanism == s.mechanism
	}
	if mechanism != MechanismPlain && (mechanism != MechanismPlus || !s.binding.plus()) {
		return false
	}
	s.mechanism = mechanism
	return true
}

// readFirst reads client-first-message: GS2 header, user name, nonce.
func (s *Server) readFirst(msg []byte) error {
	if err := checkMessage(msg); err != nil {
		return err
	}
	rest, err := s.readGS2(msg)
	if err != nil {
		return err
	}
	s.clientBare = bytes.Clone(rest)
	if len(rest) > 0 && rest[0] == 'm' {
		return &Error{SQLState: stateUnsupported, Message: "client requires an unsupported SCRAM extension"}
	}
	p := parser{rest: rest}
	if _, err := p.value('n'); err != nil { // the startup packet's user counts
		return err
	}
	nonce, err := p.value('r')
	if err != nil {
		return err
	}
	if !printable(nonce) {
		return &Error{SQLState: stateProtocol, Message: "non-printable characters in SCRAM nonce"}
	}
	for len(p.rest) > 0 { // optional extensions are ignored (RFC 5802 section 5.1)
		if _, _, err := p.any(); err != nil {
			return err
		}
	}
	s.fullNonce = append(append([]byte{}, nonce...), s.nonce...)
	return nil
}

// readGS2 reads the channel-binding flag and the authorization identity, and
// returns what follows. The matrix and its SQLSTATEs are those of
// read_client_first_message in PostgreSQL's auth-scram.c.
func (s *Server) readGS2(msg []byte) ([]byte, error) {
	plus := s.mechanism == MechanismPlus
	s.flag = msg[0]
	rest := msg[1:]
	switch s.flag {
	case 'n', 'y':
		if plus {
			return nil, malformed("The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.")
		}
		if s.flag == 'y' && s.binding.plus() {
			// Somebody in between took PLUS out of our list.
			return nil, &Error{
				SQLState: stateAuthSpec, Message: "SCRAM channel binding negotiation error",
				Detail: "The client supports SCRAM channel binding but thinks the server does not.  However, this server does support channel binding.",
			}
		}
		if len(rest) == 0 || rest[0] != ',' {
			return nil, malformedf("Comma expected, but found character \"%s\".", show(rest[:min(1, len(rest))]))
		}
		rest = rest[1:]
	case 'p':
		if !plus {
			return nil, malformed("The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.")
		}
		p := parser{rest: msg}
		typ, err := p.value('p')
		if err != nil {
			return nil, err
		}
		if string(typ) != bindTyp {
			return nil, &Error{SQLState: stateProtocol, Message: "unsupported SCRAM channel-binding type \"" + show(typ) + "\""}
		}
		rest = p.rest
	default:
		return nil, malformedf("Unexpected channel-binding flag \"%s\".", show(msg[:1]))
	}
	switch {
	case len(rest) > 0 && rest[0] == ',':
		return rest[1:], nil
	case len(rest) > 0 && rest[0] == 'a':
		return nil, &Error{SQLState: stateUnsupported, Message: "client uses authorization identity, but it is not supported"}
	default:
		return nil, malformedf("Unexpected attribute \"%s\" in client-first-message.", show(rest[:min(1, len(rest))]))
	}
}

// Final takes the data of the client's second SASLResponse and returns that of
// AuthenticationSASLFinal. A wrong proof and a doomed log-in are [ErrPassword];
// other errors are *Error too.
func (s *Server) Final(msg []byte) ([]byte, error) {
	if s.state != serverChallenged {
		return nil, s.fail(malformed("Message out of order."))
	}
	proof, without, err := s.readFinal(msg)
	if err != nil {
		return nil, s.fail(err)
	}
	comma := []byte{','}
	auth := [][]byte{s.clientBare, comma, s.serverFirst, comma, without}

	// ClientKey = ClientProof XOR HMAC(StoredKey, AuthMessage); the client
	// knows the password if H(ClientKey) is the StoredKey. All of it is done
	// for a doomed log-in as well.
	xorInto(proof, mac(s.v.StoredKey, auth...))
	stored := sha256.Sum256(proof)
	match := subtle.ConstantTimeCompare(stored[:], s.v.StoredKey)
	signature := mac(s.v.ServerKey, auth...)
	if match != 1 || s.doomed {
		clear(proof)
		return nil, s.fail(ErrPassword)
	}
	s.clientKey = proof
	s.state = serverDone
	return base64.StdEncoding.AppendEncode([]byte("v="), signature), nil
}

// readFinal reads client-final-message and returns the proof and the message
// without it.
func (s *Server) readFinal(msg []byte) (proof, without []byte, err error) {
	if err := checkMessage(msg); err != nil {
		return nil, nil, err
	}
	p := parser{rest: msg}
	binding, err := p.value('c')
	if err != nil {
		return nil, nil, err
	}
	if err := s.checkBinding(binding); err != nil {
		return nil, nil, err
	}
	nonce, err := p.value('r')
	if err != nil {
		return nil, nil, err
	}
	for { // extensions may stand between nonce and proof; the proof is last
		before := len(msg) - len(p.rest)
		attr, value, err := p.any()
		if err != nil {
			return nil, nil, err
		}
		if attr != 'p' {
			continue
		}
		var ok bool
		if proof, ok = decodeKey(value); !ok {
			return nil, nil, malformed("Malformed proof in client-final-message.")
		}
		without = msg[:before-1] // without the comma in front of the proof
		break
	}
	switch {
	case len(p.rest) > 0:
		err = malformed("Garbage found at the end of client-final-message.")
	case subtle.ConstantTimeCompare(nonce, s.fullNonce) != 1:
		err = &Error{SQLState: stateProtocol, Message: "invalid SCRAM response", Detail: "Nonce does not match."}
	}
	if err != nil {
		clear(proof)
		return nil, nil, err
	}
	return proof, without, nil
}

// checkBinding compares the c= attribute with what this connection must send.
func (s *Server) checkBinding(got []byte) error {
	if s.mechanism == MechanismPlus {
		want := bindingAttr(gs2Plus, s.binding.CertHash)
		if subtle.ConstantTimeCompare(got, want) != 1 {
			return &Error{SQLState: stateAuthSpec, Message: "SCRAM channel binding check failed"}
		}
		return nil
	}
	if string(got) != string(bindingAttr(string(s.flag)+",,", nil)) {
		return &Error{SQLState: stateProtocol, Message: "unexpected SCRAM channel-binding attribute in client-final-message"}
	}
	return nil
}

// bindingAttr returns the value of the c= attribute.
func bindingAttr(gs2 string, data []byte) []byte {
	return base64.StdEncoding.AppendEncode(nil, append([]byte(gs2), data...))
}

// ClientKey returns the client's key after Final succeeded, else nil. It is as
// good as the password wherever the same verifier is stored. Valid until Close.
func (s *Server) ClientKey() []byte { return s.clientKey }

// Close ends the log-in and zeroes the keys. Safe to call again.
func (s *Server) Close() {
	s.state = serverFailed
	s.v.zero()
	clear(s.clientKey)
	s.clientKey = nil
}

// fail makes every later call fail and zeroes the keys.
func (s *Server) fail(err error) error {
	s.Close()
	return err
}
