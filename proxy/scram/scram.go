// SPDX-License-Identifier: GPL-3.0-or-later

// Package scram speaks SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 7677,
// channel binding tls-server-end-point of RFC 5929) in the way PostgreSQL does,
// as a conversation without I/O: the caller moves the bytes.
//
// [Server] verifies a client against a stored [Verifier] and keeps the
// ClientKey that the client's proof reveals. [Client] logs in elsewhere with
// that key, without the password, wherever the same verifier is stored: same
// salt and same iterations, not merely the same password.
//
// The user name inside the SCRAM messages is ignored, as PostgreSQL does: the
// one of the startup packet counts.
//
// Every error ends the conversation: later calls fail as well. Nothing here is
// safe for use by several goroutines at once. Keys are zeroed by Close; callers
// that want temporaries erased too run Final, Next and Done inside erase.Do.
package scram

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
)

// Names of the mechanisms, as sent in AuthenticationSASL.
const (
	MechanismPlain = "SCRAM-SHA-256"
	MechanismPlus  = "SCRAM-SHA-256-PLUS"
)

// MaxMessage bounds every SCRAM message in both directions, in bytes. It is
// PostgreSQL's PG_MAX_SASL_MESSAGE_LENGTH (libpq/sasl.h); callers apply it to
// the frame before they allocate.
const MaxMessage = 1024

// MaxIterations bounds the iteration count of a verifier and of a server's
// challenge. Neither end of this package iterates: the count is passed on to
// the client, whose CPU it costs, so the bound only has to stop absurd values.
// Ten million is about five seconds of PBKDF2; guides recommend 600,000.
const MaxIterations = 10_000_000

const (
	keyLen = sha256.Size

	// nonceLen is the count of random bytes in a nonce: PostgreSQL's
	// SCRAM_RAW_NONCE_LEN, 24 characters in base64.
	nonceLen = 18

	// maxSalt bounds a decoded salt. PostgreSQL makes 16 bytes; foreign tools
	// make up to 64.
	maxSalt = 256

	// gs2Plus is the GS2 header of a log-in with channel binding.
	gs2Plus = "p=tls-server-end-point,,"
	bindTyp = "tls-server-end-point"
)

// SQLSTATEs of this package's errors.
const (
	stateProtocol    = "08P01" // protocol_violation
	stateUnsupported = "0A000" // feature_not_supported
	stateAuthSpec    = "28000" // invalid_authorization_specification
	statePassword    = "28P01" // invalid_password
)

// Error is a refusal with the SQLSTATE and the words PostgreSQL uses for it. A
// server sends it to the client as FATAL.
type Error struct {
	SQLState, Message, Detail string
}

// Error returns message and detail.
func (e *Error) Error() string {
	if e.Detail == "" {
		return "scram: " + e.Message
	}
	return "scram: " + e.Message + ": " + e.Detail
}

// ErrPassword is the one answer to a wrong password, an unknown role and a
// doomed log-in (errors.Is). The caller adds `for user "…"` to its message, as
// PostgreSQL does.
var ErrPassword error = &Error{SQLState: statePassword, Message: "password authentication failed"}

// ErrVerifierDiffers is reported by [Client.Next] if the server's salt or
// iteration count is not that of the verifier with which the client logged in:
// the password was set again, or the servers do not replicate one another. The
// ClientKey is of no use there.
var ErrVerifierDiffers = errors.New("scram: the server's verifier is not the one this client logged in with (salt or iterations differ)")

// ErrServerSignature is reported by [Client.Done] if the server did not prove
// that it knows the verifier: it must not be trusted.
var ErrServerSignature = errors.New("scram: the server's signature is wrong")

// Binding says what a connection can be bound to.
type Binding struct {
	// TLS: the connection runs over TLS.
	TLS bool
	// CertHash is the tls-server-end-point hash ([CertHash]) of the
	// certificate which the server end of the connection presented. Nil: PLUS
	// can be neither offered nor chosen.
	CertHash []byte
}

// plus says whether channel binding can be used.
func (b Binding) plus() bool { return b.TLS && len(b.CertHash) > 0 }

func malformed(detail string) error {
	return &Error{SQLState: stateProtocol, Message: "malformed SCRAM message", Detail: detail}
}

func malformedf(format string, args ...any) error { return malformed(fmt.Sprintf(format, args...)) }

// parser walks over a message's attributes: one letter, '=', value, comma.
type parser struct{ rest []byte }

// value reads the attribute that must come next.
func (p *parser) value(attr byte) ([]byte, error) {
	got, v, err := p.any()
	if err != nil {
		return nil, err
	}
	if got != attr {
		return nil, malformedf("Expected attribute \"%c\" but found \"%c\".", attr, got)
	}
	return v, nil
}

// any reads whichever attribute comes next.
func (p *parser) any() (attr byte, value []byte, err error) {
	if len(p.rest) == 0 {
		return 0, nil, malformed("Attribute expected, but found end of string.")
	}
	attr = p.rest[0]
	if (attr < 'A' || attr > 'Z') && (attr < 'a' || attr > 'z') {
		return 0, nil, malformedf("Attribute expected, but found invalid character \"%s\".", show(p.rest[:1]))
	}
	if len(p.rest) < 2 || p.rest[1] != '=' {
		return 0, nil, malformedf("Expected character \"=\" for attribute \"%c\".", attr)
	}
	p.rest = p.rest[2:]
	for i, c := range p.rest {
		if c == ',' {
			value, p.rest = p.rest[:i], p.rest[i+1:]
			return attr, value, nil
		}
	}
	value, p.rest = p.rest, nil
	return attr, value, nil
}

// show makes at most 30 of a peer's bytes fit for a message, as PostgreSQL does.
func show(b []byte) string {
	out := make([]byte, 0, 30)
	for _, c := range b {
		if len(out) == cap(out) {
			break
		}
		if c < 0x21 || c > 0x7e {
			c = '?'
		}
		out = append(out, c)
	}
	return string(out)
}

// checkMessage applies what holds for every message: bounded, not empty, no
// NUL (PostgreSQL compares the length with strlen).
func checkMessage(msg []byte) error {
	switch {
	case len(msg) > MaxMessage:
		return malformed("The message is too long.")
	case len(msg) == 0:
		return malformed("The message is empty.")
	}
	for _, c := range msg {
		if c == 0 {
			return malformed("Message length does not match input length.")
		}
	}
	return nil
}

// printable says whether b is a nonce in the sense of RFC 5802: printable
// ASCII without the comma, not empty.
func printable(b []byte) bool {
	for _, c := range b {
		if c < 0x21 || c > 0x7e || c == ',' {
			return false
		}
	}
	return len(b) > 0
}

// newNonce returns a fresh nonce in base64. crypto/rand does not fail: it
// crashes the process rather than return weak bytes.
func newNonce() string {
	var raw [nonceLen]byte
	_, _ = rand.Read(raw[:]) // never returns an error, see crypto/rand
	return base64.StdEncoding.EncodeToString(raw[:])
}

// decode64 decodes the one spelling of base64 that an encoder writes. Go's
// strict decoder still skips line breaks, so these are refused first. max
// bounds the encoded length before anything is allocated.
func decode64(s []byte, max int) ([]byte, bool) {
	if len(s) > max {
		return nil, false
	}
	for _, c := range s {
		if c == '\r' || c == '\n' {
			return nil, false
		}
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
	n, err := base64.StdEncoding.Strict().Decode(out, s)
	if err != nil {
		clear(out)
		return nil, false
	}
	return out[:n], true
}

// decodeKey decodes exactly one SHA-256 output.
func decodeKey(s []byte) ([]byte, bool) {
	k, ok := decode64(s, base64.StdEncoding.EncodedLen(keyLen))
	if !ok || len(k) != keyLen {
		return nil, false
	}
	return k, true
}

func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// xorInto sets dst to dst XOR b; both have keyLen bytes.
func xorInto(dst, b []byte) {
	for i := range dst {
		dst[i] ^= b[i]
	}
}
