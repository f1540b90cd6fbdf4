// SPDX-License-Identifier: GPL-3.0-or-later

package scram

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
)

// ErrMechanism is reported by [NewClient] if the server offers nothing that the
// connection can use.
var ErrMechanism = errors.New("scram: the server offers no usable mechanism")

// ErrServerMessage is reported for a message that no honest server sends
// (errors.Is).
var ErrServerMessage = errors.New("scram: malformed message from the server")

type clientState int

const (
	clientNew  clientState = iota // wants the server's challenge
	clientSent                    // wants the server's signature
	clientDone                    // the server is authenticated
	clientFailed
)

// Client is the client's side of one log-in with a ClientKey.
type Client struct {
	state     clientState
	clientKey []byte
	v         Verifier
	mechanism string
	gs2       string
	binding   Binding
	nonce     string // set by New, replaced only by tests
	signature []byte // what the server must answer
}

// NewClient starts a log-in with a ClientKey that a [Server] learnt against v.
// mechanisms is the server's list; PLUS is chosen if it is offered and the
// connection has a certificate hash. If the connection could be bound but the
// server does not offer it, the messages say so ("y"), and a server that did
// offer it refuses: nobody in between can take PLUS away. A caller that insists
// on a bound log-in checks [Client.Mechanism] before it sends First.
func NewClient(clientKey []byte, v Verifier, mechanisms []string, b Binding) (*Client, error) {
	stored := sha256.Sum256(clientKey)
	if subtle.ConstantTimeCompare(stored[:], v.StoredKey) != 1 || len(v.ServerKey) != keyLen {
		return nil, fmt.Errorf("%w: the client key does not belong to it", ErrVerifier)
	}
	c := &Client{clientKey: bytes.Clone(clientKey), v: v.clone(), binding: b, nonce: newNonce()}
	switch {
	case b.plus() && slices.Contains(mechanisms, MechanismPlus):
		c.mechanism, c.gs2 = MechanismPlus, gs2Plus
	case !slices.Contains(mechanisms, MechanismPlain):
		c.Close()
		return nil, ErrMechanism
	case b.plus():
		c.mechanism, c.gs2 = MechanismPlain, "y,,"
	default:
		c.mechanism, c.gs2 = MechanismPlain, "n,,"
	}
	return c, nil
}

// Mechanism returns the name for SASLInitialResponse.
func (c *Client) Mechanism() string { return c.mechanism }

// First returns the initial response. The user name in it is empty, as libpq's
// is: the server takes the startup packet's.
func (c *Client) First() []byte { return []byte(c.gs2 + c.bare()) }

func (c *Client) bare() string { return "n=,r=" + c.nonce }

// Next takes the data of AuthenticationSASLContinue and returns that of the
// SASLResponse. It is [ErrVerifierDiffers] if the server's challenge is not
// made from the verifier of this client.
func (c *Client) Next(serverFirst []byte) ([]byte, error) {
	if c.state != clientNew {
		return nil, c.fail(fmt.Errorf("%w: challenge out of order", ErrServerMessage))
	}
	nonce, err := c.readChallenge(serverFirst)
	if err != nil {
		return nil, c.fail(err)
	}
	var cbind []byte
	if c.mechanism == MechanismPlus {
		cbind = c.binding.CertHash
	}
	out := append([]byte("c="), bindingAttr(c.gs2, cbind)...)
	out = append(out, ",r="...)
	out = append(out, nonce...)

	comma := []byte{','}
	auth := [][]byte{[]byte(c.bare()), comma, serverFirst, comma, out}
	proof := mac(c.v.StoredKey, auth...)
	c.signature = mac(c.v.ServerKey, auth...)
	xorInto(proof, c.clientKey)

	out = append(out, ",p="...) // auth is used up: out may be reallocated
	out = base64.StdEncoding.AppendEncode(out, proof)
	clear(proof)
	clear(c.clientKey)
	c.state = clientSent
	return out, nil
}

// readChallenge reads server-first-message and returns the full nonce.
func (c *Client) readChallenge(msg []byte) ([]byte, error) {
	if checkMessage(msg) != nil {
		return nil, fmt.Errorf("%w: bad length of the challenge", ErrServerMessage)
	}
	p := parser{rest: msg}
	nonce, errR := p.value('r') // an extension m= stands first and fails here
	salt, errS := p.value('s')
	count, errI := p.value('i')
	if errR != nil || errS != nil || errI != nil || len(p.rest) > 0 {
		return nil, fmt.Errorf("%w: a challenge is r=, s=, i=", ErrServerMessage)
	}
	if !printable(nonce) || len(nonce) <= len(c.nonce) || !bytes.HasPrefix(nonce, []byte(c.nonce)) {
		return nil, fmt.Errorf("%w: its nonce does not continue ours", ErrServerMessage)
	}
	rawSalt, ok := decode64(salt, base64.StdEncoding.EncodedLen(maxSalt))
	if !ok || len(rawSalt) == 0 {
		return nil, fmt.Errorf("%w: bad salt", ErrServerMessage)
	}
	n, ok := parseIterations(count)
	if !ok {
		return nil, fmt.Errorf("%w: iterations must be 1 to %d", ErrServerMessage, MaxIterations)
	}
	if n != c.v.Iterations || !bytes.Equal(rawSalt, c.v.Salt) {
		return nil, ErrVerifierDiffers
	}
	return nonce, nil
}

// Done takes the data of AuthenticationSASLFinal. Only after it returned nil
// is the server authenticated; AuthenticationOk before that is a fraud.
func (c *Client) Done(serverFinal []byte) error {
	if c.state != clientSent {
		return c.fail(fmt.Errorf("%w: signature out of order", ErrServerMessage))
	}
	if checkMessage(serverFinal) != nil {
		return c.fail(fmt.Errorf("%w: bad length of the signature", ErrServerMessage))
	}
	p := parser{rest: serverFinal}
	value, err := p.value('v') // an e= (refusal) fails here; PostgreSQL never sends it
	if err != nil || len(p.rest) > 0 {
		return c.fail(fmt.Errorf("%w: a signature is v=", ErrServerMessage))
	}
	got, ok := decodeKey(value)
	if !ok {
		return c.fail(fmt.Errorf("%w: bad signature", ErrServerMessage))
	}
	if subtle.ConstantTimeCompare(got, c.signature) != 1 {
		return c.fail(ErrServerSignature)
	}
	c.Close()
	c.state = clientDone
	return nil
}

// Authenticated says whether Done has returned nil.
func (c *Client) Authenticated() bool { return c.state == clientDone }

// Close ends the log-in and zeroes the keys, but not the caller's clientKey.
// Safe to call again.
func (c *Client) Close() {
	if c.state != clientDone {
		c.state = clientFailed
	}
	c.v.zero()
	clear(c.clientKey)
	clear(c.signature)
}

func (c *Client) fail(err error) error {
	c.state = clientFailed
	c.Close()
	return err
}
