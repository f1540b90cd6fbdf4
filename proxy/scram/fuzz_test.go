// SPDX-License-Identifier: GPL-3.0-or-later

package scram

import (
	"bytes"
	"testing"
)

// FuzzServer: no message of a stranger panics, opens the door or grows the
// reply beyond its bound.
func FuzzServer(f *testing.F) {
	f.Add(byte(0), []byte("n,,n=,r=abc"), []byte("c=biws,r=abcSERVER,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="))
	f.Add(byte(1), []byte("p=tls-server-end-point,,n=,r=abc"), []byte("c=cD10bHMtc2VydmVyLWVuZC1wb2ludCwsBw==,r=abcSERVER,x=1,p=AAAA"))
	f.Add(byte(2), []byte("y,,n=a,r=abc,x=y"), []byte("c=eSws,r=abcSERVER"))
	v := testVerifier(f, "secret")
	f.Fuzz(func(t *testing.T, how byte, first, final []byte) {
		b, mech := Binding{}, MechanismPlain
		if how&1 != 0 {
			b, mech = Binding{TLS: true, CertHash: []byte{7}}, MechanismPlus
		}
		if how&2 != 0 {
			mech = MechanismPlain
		}
		s := NewServer(v, false, b)
		s.nonce = "SERVER"
		reply, err := s.First(mech, first)
		if len(reply) > 2*MaxMessage {
			t.Fatalf("reply of %d bytes", len(reply))
		}
		if err != nil && reply != nil {
			t.Fatal("both a reply and an error")
		}
		if _, err := s.Final(final); err == nil {
			t.Fatal("logged in without the password")
		}
		if s.ClientKey() != nil {
			t.Fatal("a client key without a log-in")
		}
	})
}

// FuzzClient: no message of a server panics or passes for its signature.
func FuzzClient(f *testing.F) {
	f.Add([]byte("r=CLIENTSERVER,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=2"), []byte("v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="))
	f.Add([]byte("r=CLIENTSERVER,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=2,x=1"), []byte("e=no"))
	v := testVerifier(f, "secret")
	f.Fuzz(func(t *testing.T, challenge, final []byte) {
		c := newTestClient(t, v)
		reply, err := c.Next(challenge)
		if err == nil && !bytes.HasPrefix(reply, []byte("c=biws,r=CLIENT")) {
			t.Fatalf("reply %q", reply)
		}
		if c.Done(final) == nil || c.Authenticated() {
			t.Fatal("a server without the verifier was believed")
		}
	})
}

// FuzzVerifier: what is accepted has one spelling.
func FuzzVerifier(f *testing.F) {
	f.Add(testVerifier(f, "secret").Text())
	f.Add("SCRAM-SHA-256$4096:c2FsdA==$AA==:AA==")
	f.Add("md5d41d8cd98f00b204e9800998ecf8427e")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVerifier(s)
		if err == nil && v.Text() != s {
			t.Fatalf("%q reads back as %q", s, v.Text())
		}
	})
}
