// SPDX-License-Identifier: GPL-3.0-or-later

package scram

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/pbkdf2"
)

// testVerifier returns a cheap verifier of a password.
func testVerifier(tb testing.TB, password string) Verifier {
	tb.Helper()
	v, err := NewVerifier(password, []byte("0123456789abcdef"), 2)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// keyOf derives the ClientKey as a client with the password does, by another
// implementation of PBKDF2 than NewVerifier's.
func keyOf(password string, v Verifier) []byte {
	return mac(pbkdf2.Key([]byte(password), v.Salt, v.Iterations, keyLen, sha256.New), []byte("Client Key"))
}

// The conversation of RFC 7677 section 3.
func TestRFC7677(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier("pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(v, false, Binding{})
	s.nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	steps := []struct{ in, want string }{
		{"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"},
		{"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="},
	}
	got, err := s.First(MechanismPlain, []byte(steps[0].in))
	if err != nil || string(got) != steps[0].want {
		t.Fatalf("First = %q, %v; want %q", got, err, steps[0].want)
	}
	got, err = s.Final([]byte(steps[1].in))
	if err != nil || string(got) != steps[1].want {
		t.Fatalf("Final = %q, %v; want %q", got, err, steps[1].want)
	}
	if want := keyOf("pencil", v); !bytes.Equal(s.ClientKey(), want) {
		t.Errorf("ClientKey = %x, want %x", s.ClientKey(), want)
	}
}

// converse runs a log-in of a client with a key against a server.
func converse(c *Client, s *Server) error {
	challenge, err := s.First(c.Mechanism(), c.First())
	if err != nil {
		return err
	}
	proof, err := c.Next(challenge)
	if err != nil {
		return err
	}
	final, err := s.Final(proof)
	if err != nil {
		return err
	}
	return c.Done(final)
}

func TestRoundTrip(t *testing.T) {
	hash := bytes.Repeat([]byte{7}, 32)
	bound := Binding{TLS: true, CertHash: hash}
	unbindable := Binding{TLS: true}
	v := testVerifier(t, "secret")
	for _, tc := range []struct {
		name           string
		client, server Binding
		mechanisms     []string // nil: the server's own
		want           string
	}{
		{"clear", Binding{}, Binding{}, nil, MechanismPlain},
		{"bound", bound, bound, nil, MechanismPlus},
		{"certificate without hash", unbindable, unbindable, nil, MechanismPlain},
		{"server cannot bind", bound, unbindable, nil, MechanismPlain},
		{"client cannot bind", unbindable, bound, nil, MechanismPlain},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := NewServer(v, false, tc.server)
			c, err := NewClient(keyOf("secret", v), v, s.Mechanisms(), tc.client)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Mechanism(); got != tc.want {
				t.Errorf("mechanism %s, want %s", got, tc.want)
			}
			if err := converse(c, s); err != nil {
				t.Fatal(err)
			}
			if !c.Authenticated() || !bytes.Equal(s.ClientKey(), keyOf("secret", v)) {
				t.Error("the server did not learn the client's key")
			}
		})
	}
}

// What a man in the middle can do to the negotiation must not go unnoticed.
func TestDowngradeIsRefused(t *testing.T) {
	bound := Binding{TLS: true, CertHash: bytes.Repeat([]byte{7}, 32)}
	other := Binding{TLS: true, CertHash: bytes.Repeat([]byte{8}, 32)}
	v := testVerifier(t, "secret")
	for _, tc := range []struct {
		name       string
		client     Binding
		mechanisms []string
	}{
		{"PLUS removed from the list", bound, []string{MechanismPlain}},
		{"other certificate", other, []string{MechanismPlus, MechanismPlain}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := NewClient(keyOf("secret", v), v, tc.mechanisms, tc.client)
			if err != nil {
				t.Fatal(err)
			}
			wantState(t, converse(c, NewServer(v, false, bound)), "28000")
		})
	}
}

func wantState(t *testing.T, err error, state string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.SQLState != state {
		t.Errorf("error %v, want SQLSTATE %s", err, state)
	}
}

func TestWrongPasswordMockAndDoomed(t *testing.T) {
	right := testVerifier(t, "secret")
	for _, tc := range []struct {
		name   string
		stored Verifier
		doomed bool
	}{
		{"wrong password", Verifier{right.Iterations, right.Salt, testVerifier(t, "other").StoredKey, right.ServerKey}, false},
		{"doomed with the right password", right, true},
		{"mock", Verifier{right.Iterations, right.Salt, Mock([]byte("k"), "u").StoredKey, right.ServerKey}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := NewServer(tc.stored, tc.doomed, Binding{})
			c, err := NewClient(keyOf("secret", right), right, s.Mechanisms(), Binding{})
			if err != nil {
				t.Fatal(err)
			}
			if err := converse(c, s); !errors.Is(err, ErrPassword) {
				t.Errorf("error %v, want ErrPassword", err)
			}
			if s.ClientKey() != nil {
				t.Error("a refused log-in left a client key")
			}
			_, err = s.Final([]byte("c=biws"))
			wantState(t, err, "08P01")
		})
	}
}

func TestMock(t *testing.T) {
	a, again, b := Mock([]byte("key"), "alice"), Mock([]byte("key"), "alice"), Mock([]byte("key"), "bob")
	if a.Text() != again.Text() {
		t.Error("the mock verifier of a name is not stable")
	}
	if bytes.Equal(a.Salt, b.Salt) || bytes.Equal(a.Salt, Mock([]byte("other"), "alice").Salt) {
		t.Error("mock salts must differ by name and by secret")
	}
	if a.Iterations != 4096 || len(a.Salt) != 16 {
		t.Errorf("got %d iterations and %d salt bytes, want PostgreSQL's 4096 and 16", a.Iterations, len(a.Salt))
	}
}

func TestServerMessages(t *testing.T) {
	hash := bytes.Repeat([]byte{7}, 32)
	bound := Binding{TLS: true, CertHash: hash}
	const bare = "n=,r=abc"
	for _, tc := range []struct {
		name      string
		binding   Binding
		mechanism string
		msg       string
		want      string // SQLSTATE, empty: accepted
	}{
		{"plain n", Binding{}, MechanismPlain, "n,," + bare, ""},
		{"plain y in clear", Binding{}, MechanismPlain, "y,," + bare, ""},
		{"y over TLS without hash", Binding{TLS: true}, MechanismPlain, "y,," + bare, ""},
		{"n although PLUS is offered", bound, MechanismPlain, "n,," + bare, ""},
		{"user name ignored", Binding{}, MechanismPlain, "n,,n=somebody=2Cx,r=abc", ""},
		{"extension after nonce", Binding{}, MechanismPlain, "n,," + bare + ",x=1", ""},
		{"plus", bound, MechanismPlus, "p=tls-server-end-point,," + bare, ""},

		{"y although PLUS is offered", bound, MechanismPlain, "y,," + bare, "28000"},
		{"p without PLUS", bound, MechanismPlain, "p=tls-server-end-point,," + bare, "08P01"},
		{"PLUS with n", bound, MechanismPlus, "n,," + bare, "08P01"},
		{"PLUS with y", bound, MechanismPlus, "y,," + bare, "08P01"},
		{"unknown binding type", bound, MechanismPlus, "p=tls-unique,," + bare, "08P01"},
		{"PLUS not offered", Binding{}, MechanismPlus, "p=tls-server-end-point,," + bare, "08P01"},
		{"PLUS not offered, no hash", Binding{TLS: true}, MechanismPlus, "p=tls-server-end-point,," + bare, "08P01"},
		{"unknown mechanism", Binding{}, "SCRAM-SHA-1", "n,," + bare, "08P01"},
		{"no mechanism", Binding{}, "", "n,," + bare, "08P01"},
		{"authzid", Binding{}, MechanismPlain, "n,a=root," + bare, "0A000"},
		{"mandatory extension", Binding{}, MechanismPlain, "n,,m=x," + bare, "0A000"},
		{"unknown flag", Binding{}, MechanismPlain, "z,," + bare, "08P01"},
		{"no comma after flag", Binding{}, MechanismPlain, "n", "08P01"},
		{"no second comma", Binding{}, MechanismPlain, "n,", "08P01"},
		{"empty bare", Binding{}, MechanismPlain, "n,,", "08P01"},
		{"no user attribute", Binding{}, MechanismPlain, "n,,r=abc", "08P01"},
		{"no nonce", Binding{}, MechanismPlain, "n,,n=", "08P01"},
		{"empty nonce", Binding{}, MechanismPlain, "n,,n=,r=", "08P01"},
		{"control character in nonce", Binding{}, MechanismPlain, "n,,n=,r=a\x01c", "08P01"},
		{"space in nonce", Binding{}, MechanismPlain, "n,,n=,r=a c", "08P01"},
		{"NUL", Binding{}, MechanismPlain, "n,," + bare + "\x00", "08P01"},
		{"empty", Binding{}, MechanismPlain, "", "08P01"},
		{"bad extension", Binding{}, MechanismPlain, "n,," + bare + ",1=x", "08P01"},
		{"longest", Binding{}, MechanismPlain, "n,,n=,r=" + strings.Repeat("a", MaxMessage-8), ""},
		{"too long", Binding{}, MechanismPlain, "n,,n=,r=" + strings.Repeat("a", MaxMessage-7), "08P01"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := NewServer(testVerifier(t, "x"), false, tc.binding)
			reply, err := s.First(tc.mechanism, []byte(tc.msg))
			if tc.want != "" {
				wantState(t, err, tc.want)
				return
			}
			if err != nil || !bytes.HasPrefix(reply, []byte("r=")) {
				t.Errorf("First = %q, %v; want a challenge", reply, err)
			}
		})
	}
}

// A client may select the mechanism without an initial response.
func TestEmptyInitialResponse(t *testing.T) {
	s := NewServer(testVerifier(t, "x"), false, Binding{})
	reply, err := s.First(MechanismPlain, nil)
	if err != nil || reply == nil || len(reply) != 0 {
		t.Fatalf("First(nil) = %v, %v; want an empty challenge", reply, err)
	}
	if _, err := s.First(MechanismPlain, []byte("n,,n=,r=abc")); err != nil {
		t.Fatal(err)
	}
	_, err = s.First(MechanismPlain, []byte("n,,n=,r=abc"))
	wantState(t, err, "08P01")
}

func TestServerFinalMessages(t *testing.T) {
	hash := bytes.Repeat([]byte{7}, 32)
	plus := "c=" + string(bindingAttr(gs2Plus, hash))
	proof := ",p=" + base64.StdEncoding.EncodeToString(make([]byte, keyLen))
	const nonce = ",r=abcSERVER"
	for _, tc := range []struct {
		name, first, msg, want string
	}{
		{"wrong proof", "n", "c=biws" + nonce + proof, "28P01"},
		{"wrong proof, y", "y", "c=eSws" + nonce + proof, "28P01"},
		{"wrong proof, plus", "p", plus + nonce + proof, "28P01"},
		{"wrong proof, extension", "n", "c=biws" + nonce + ",x=1" + proof, "28P01"},
		{"n flag, y data", "n", "c=eSws" + nonce + proof, "08P01"},
		{"y flag, n data", "y", "c=biws" + nonce + proof, "08P01"},
		{"n flag, plus data", "n", plus + nonce + proof, "08P01"},
		{"plus flag, n data", "p", "c=biws" + nonce + proof, "28000"},
		{"plus, other hash", "p", "c=" + string(bindingAttr(gs2Plus, make([]byte, 32))) + nonce + proof, "28000"},
		{"plus, no hash", "p", "c=" + string(bindingAttr(gs2Plus, nil)) + nonce + proof, "28000"},
		{"other nonce", "n", "c=biws,r=abcOTHER" + proof, "08P01"},
		{"client nonce only", "n", "c=biws,r=abc" + proof, "08P01"},
		{"no proof", "n", "c=biws" + nonce, "08P01"},
		{"short proof", "n", "c=biws" + nonce + ",p=AAAA", "08P01"},
		{"proof not base64", "n", "c=biws" + nonce + ",p=" + strings.Repeat("!", 44), "08P01"},
		{"line break in proof", "n", "c=biws" + nonce + proof[:10] + "\n" + proof[10:], "08P01"},
		{"after the proof", "n", "c=biws" + nonce + proof + ",x=1", "08P01"},
		{"no binding", "n", nonce[1:] + proof, "08P01"},
		{"empty", "n", "", "08P01"},
		{"NUL", "n", "c=biws" + nonce + proof + "\x00", "08P01"},
		{"too long", "n", "c=biws" + nonce + ",x=" + strings.Repeat("a", MaxMessage) + proof, "08P01"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, mech, gs2 := Binding{}, MechanismPlain, tc.first+",,"
			if tc.first == "p" {
				b, mech, gs2 = Binding{TLS: true, CertHash: hash}, MechanismPlus, gs2Plus
			}
			s := NewServer(testVerifier(t, "x"), false, b)
			s.nonce = "SERVER"
			if _, err := s.First(mech, []byte(gs2+"n=,r=abc")); err != nil {
				t.Fatal(err)
			}
			_, err := s.Final([]byte(tc.msg))
			wantState(t, err, tc.want)
		})
	}
}

func TestCloseZeroesKeys(t *testing.T) {
	v := testVerifier(t, "secret")
	s := NewServer(v, false, Binding{})
	c, err := NewClient(keyOf("secret", v), v, s.Mechanisms(), Binding{})
	if err != nil {
		t.Fatal(err)
	}
	if err := converse(c, s); err != nil {
		t.Fatal(err)
	}
	key, zero := s.ClientKey(), make([]byte, keyLen)
	s.Close()
	for name, k := range map[string][]byte{"server's client key": key, "server's stored key": s.v.StoredKey, "client's key": c.clientKey, "client's server key": c.v.ServerKey} {
		if !bytes.Equal(k, zero) {
			t.Errorf("%s is not zeroed", name)
		}
	}
	if s.ClientKey() != nil {
		t.Error("ClientKey after Close is not nil")
	}
	if bytes.Equal(v.StoredKey, zero) {
		t.Error("the caller's verifier was zeroed")
	}
}
