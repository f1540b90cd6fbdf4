// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/scram"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// clientNonce stands in a script for the nonce that the node chooses, which is as
// long.
const clientNonce = "THE-NONCE-OF-THE-CLIENT-"

// A script is a server that says what is written down, whatever it hears, as
// somebody between node and server could.
type script struct {
	net.Conn // nil: nothing else is asked of it
	says     []byte
	left     int // of the message that it is saying
	heard    []byte
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.says) == 0 {
		return 0, net.ErrClosed
	}
	// Message by message: what it says next may depend on what it hears.
	if s.left <= 0 {
		s.left = len(s.says)
		if s.left >= wire.HeaderSize {
			s.left = 1 + int(binary.BigEndian.Uint32(s.says[1:]))
		}
	}
	n := copy(p, s.says[:min(len(s.says), max(s.left, 1))])
	s.says, s.left = s.says[n:], s.left-n
	return n, nil
}

func (s *script) Write(p []byte) (int, error) {
	s.heard = append(s.heard, p...)
	if _, nonce, ok := bytes.Cut(p, []byte("n=,r=")); ok && len(nonce) == len(clientNonce) {
		s.says = bytes.ReplaceAll(s.says, []byte(clientNonce), nonce)
	}
	return len(p), nil
}

func (*script) SetDeadline(time.Time) error { return nil }
func (*script) LocalAddr() net.Addr         { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }

// logInTo logs in to a script, by the ClientKey of a role. far: it is no server
// whose certificate was verified.
func logInTo(t testing.TB, says []byte, trust, far bool) (*serverLogin, *script, error) {
	t.Helper()
	verifier, key := roleKeys()
	s := &script{says: bytes.Clone(says)}
	ss := &session{
		srv:       &Server{cfg: Config{Log: slog.New(slog.DiscardHandler), AllowTrust: trust}},
		clientKey: key, scramVerifier: verifier, params: []wire.Param{{Name: "user", Value: "app"}},
	}
	up := &upstream{Server: vault.Server{Network: "tcp", Addr: "127.0.0.1:5432"}}
	if far {
		up.Addr = "192.0.2.2:5432"
	}
	to := &leg{Conn: wire.NewConn(s), at: up}
	to.reader = wire.NewServerReader(to.Conn)
	defer to.reader.Release()
	l := &serverLogin{ss: ss, leg: to}
	defer l.close()
	return l, s, l.run(t.Context())
}

// roleKeys are what a node knows of a role that has logged in.
func roleKeys() (scram.Verifier, []byte) {
	key := bytes.Repeat([]byte{7}, sha256.Size)
	stored := sha256.Sum256(key)
	return scram.Verifier{Iterations: 1, Salt: []byte("0123456789abcdef"), StoredKey: stored[:], ServerKey: bytes.Repeat([]byte{9}, sha256.Size)}, key
}

func auth(code uint32, data string) []byte {
	return wire.AppendMessage(nil, wire.Authentication, append(binary.BigEndian.AppendUint32(nil, code), data...))
}

// What servers say, none of which shows that they know the verifier.
var (
	saysSASL      = auth(authSASL, "SCRAM-SHA-256\x00\x00")
	saysChallenge = auth(authSASLContinue, "r="+clientNonce+"more,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=1")
	saysSignature = auth(authSASLFinal, "v="+strings.Repeat("A", 43)+"=")
	saysOK        = auth(authOK, "")
	saysSetting   = wire.AppendMessage(nil, wire.ParameterStatus, []byte("client_encoding\x00UTF8\x00"))
	saysKey       = wire.AppendMessage(nil, wire.BackendKeyData, []byte("\x00\x00\x00\x01abcd"))
	saysReady     = wire.AppendMessage(nil, wire.ReadyForQuery, []byte{wire.Idle})
)

// TestServerMustProveItself: whoever does not know the role's verifier is no
// server, in whichever order he says what a server says.
func TestServerMustProveItself(t *testing.T) {
	after := slices.Concat(saysSetting, saysKey, saysReady)
	for name, c := range map[string]struct {
		says       []byte
		trust, far bool
		want       string // in the error; empty: the node is logged in
	}{
		"trust, allowed":              {says: slices.Concat(saysOK, after), trust: true},
		"trust, allowed, from far":    {says: slices.Concat(saysOK, after), trust: true, far: true, want: "neither verified nor bound"},
		"trust":                       {says: slices.Concat(saysOK, after), want: "without a password"},
		"nothing but ready":           {says: after, want: "unexpected message"},
		"nothing but ready, from far": {says: saysReady, far: true, want: "unexpected message"},
		"nothing but ready, trusted":  {says: saysReady, trust: true, want: "unexpected message"},
		"ready behind the list":       {says: slices.Concat(saysSASL, after), want: "unexpected message"},
		"ready behind the challenge":  {says: slices.Concat(saysSASL, saysChallenge, saysReady), want: "unexpected message"},
		"OK behind the challenge":     {says: slices.Concat(saysSASL, saysChallenge, saysOK, after), want: "without a password"},
		"no signature":                {says: slices.Concat(saysSASL, saysChallenge, saysSignature, saysOK, after), want: "could not prove"},
		"signature at once":           {says: slices.Concat(saysSASL, saysSignature, saysOK, after), want: "log-in to the server failed"},
		"not bound, from far":         {says: slices.Concat(saysSASL, saysChallenge), far: true, want: "neither verified nor bound"},
		"two lists":                   {says: slices.Concat(saysSASL, saysSASL), want: "cannot be passed through"},
		"OK twice":                    {says: slices.Concat(saysOK, saysOK, after), trust: true, want: "unexpected message"},
		"ends":                        {says: saysSASL, want: "closed the connection"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := logInTo(t, c.says, c.trust, c.far)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// FuzzServerLogin: no message of a server panics or makes the node believe it
// without a proof, and it never hears the ClientKey.
func FuzzServerLogin(f *testing.F) {
	f.Add(slices.Concat(saysSASL, saysChallenge, saysSignature, saysOK, saysSetting, saysKey, saysReady), false, false)
	f.Add(slices.Concat(saysOK, saysSetting, saysKey, saysReady), true, false)
	f.Add(slices.Concat(saysSASL, saysReady), false, false)
	f.Add(slices.Concat(auth(authSASL, "SCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00"), saysChallenge), false, true)
	f.Add(wire.AppendMessage(nil, wire.ErrorResponse, []byte("SFATAL\x00C28P01\x00Mno\x00\x00")), false, false)
	f.Add(slices.Concat(saysSASL, wire.AppendMessage(nil, wire.NegotiateVersion, make([]byte, 8))), false, false)
	f.Fuzz(func(t *testing.T, says []byte, trust, far bool) {
		l, s, err := logInTo(t, says, trust, far)
		_, key := roleKeys()
		switch {
		case err == nil && !trust:
			t.Fatal("a server without the verifier was believed")
		case err == nil && (!l.letIn || !bytes.Contains(l.greeting, saysOK)):
			t.Fatal("logged in without AuthenticationOk")
		case err != nil && !asFatal(err):
			t.Fatalf("the client would hear nothing of %v", err)
		case bytes.Contains(s.heard, key):
			t.Fatal("the server has the ClientKey")
		}
	})
}

// asFatal reports an error that has words for the client.
func asFatal(err error) bool {
	var own *sqlError
	var its *serverFatal
	return errors.As(err, &own) && own.fatal || errors.As(err, &its)
}

// FuzzInitialResponse: what is read of a SASLInitialResponse is all of it.
func FuzzInitialResponse(f *testing.F) {
	f.Add([]byte("SCRAM-SHA-256\x00\x00\x00\x00\x03n,,"))
	f.Add([]byte("SCRAM-SHA-256-PLUS\x00\xff\xff\xff\xff"))
	f.Add([]byte("X\x00\x00\x00\x00\x09ab"))
	f.Add([]byte("X\x00\xff\xff\xff\xffab"))
	f.Fuzz(func(t *testing.T, body []byte) {
		mechanism, data, err := initialResponse(body)
		if err != nil {
			if mechanism != "" || data != nil || !asFatal(err) {
				t.Fatalf("%q, %q beside %v", mechanism, data, err)
			}
			return
		}
		size := uint32(len(data))
		if data == nil {
			size = 0xffffffff
		}
		again := append(binary.BigEndian.AppendUint32(wire.AppendString(nil, mechanism), size), data...)
		if !bytes.Equal(again, body) {
			t.Fatalf("%q reads back as %q", body, again)
		}
	})
}
