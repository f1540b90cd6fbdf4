// SPDX-License-Identifier: GPL-3.0-or-later

package scram

import (
	"errors"
	"strings"
	"testing"
)

func newTestClient(tb testing.TB, v Verifier) *Client {
	tb.Helper()
	c, err := NewClient(keyOf("secret", v), v, []string{MechanismPlain}, Binding{})
	if err != nil {
		tb.Fatal(err)
	}
	c.nonce = "CLIENT"
	return c
}

func TestNewClientRefuses(t *testing.T) {
	v := testVerifier(t, "secret")
	key := keyOf("secret", v)
	bindable := Binding{TLS: true, CertHash: []byte{1}}
	for _, tc := range []struct {
		name       string
		key        []byte
		mechanisms []string
		b          Binding
		want       error
	}{
		{"foreign key", keyOf("other", v), []string{MechanismPlain}, Binding{}, ErrVerifier},
		{"nothing offered", key, nil, Binding{}, ErrMechanism},
		{"only PLUS, in clear", key, []string{MechanismPlus}, Binding{}, ErrMechanism},
		{"unknown only", key, []string{"OAUTHBEARER"}, bindable, ErrMechanism},
	} {
		if _, err := NewClient(tc.key, v, tc.mechanisms, tc.b); !errors.Is(err, tc.want) {
			t.Errorf("%s: error %v, want %v", tc.name, err, tc.want)
		}
	}
}

func TestClientChallenges(t *testing.T) {
	v := testVerifier(t, "secret") // salt "0123456789abcdef", 2 iterations
	const salt = "MDEyMzQ1Njc4OWFiY2RlZg=="
	for _, tc := range []struct {
		name, msg string
		want      error
	}{
		{"good", "r=CLIENTSERVER,s=" + salt + ",i=2", nil},
		{"other iterations", "r=CLIENTSERVER,s=" + salt + ",i=4096", ErrVerifierDiffers},
		{"other salt", "r=CLIENTSERVER,s=MDEyMzQ1Njc4OWFiY2RlZw==,i=2", ErrVerifierDiffers},
		{"nonce not ours", "r=CLIENXSERVER,s=" + salt + ",i=2", ErrServerMessage},
		{"nonce not continued", "r=CLIENT,s=" + salt + ",i=2", ErrServerMessage},
		{"unprintable nonce", "r=CLIENT\x7f,s=" + salt + ",i=2", ErrServerMessage},
		{"empty salt", "r=CLIENTSERVER,s=,i=2", ErrServerMessage},
		{"second spelling of the salt", "r=CLIENTSERVER,s=MDEyMzQ1Njc4OWFiY2RlZh==,i=2", ErrServerMessage},
		{"line break in the salt", "r=CLIENTSERVER,s=MDEyMzQ1Njc4OWFi\nY2RlZg==,i=2", ErrServerMessage},
		{"zero iterations", "r=CLIENTSERVER,s=" + salt + ",i=0", ErrServerMessage},
		{"negative", "r=CLIENTSERVER,s=" + salt + ",i=-2", ErrServerMessage},
		{"leading zero", "r=CLIENTSERVER,s=" + salt + ",i=02", ErrServerMessage},
		{"too many", "r=CLIENTSERVER,s=" + salt + ",i=10000001", ErrServerMessage},
		{"overflow", "r=CLIENTSERVER,s=" + salt + ",i=18446744073709551618", ErrServerMessage},
		{"no iterations", "r=CLIENTSERVER,s=" + salt, ErrServerMessage},
		{"mandatory extension", "m=x,r=CLIENTSERVER,s=" + salt + ",i=2", ErrServerMessage},
		{"more behind", "r=CLIENTSERVER,s=" + salt + ",i=2,x=1", ErrServerMessage},
		{"empty", "", ErrServerMessage},
		{"too long", "r=CLIENT" + strings.Repeat("x", MaxMessage) + ",s=" + salt + ",i=2", ErrServerMessage},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newTestClient(t, v)
			_, err := c.Next([]byte(tc.msg))
			if !errors.Is(err, tc.want) {
				t.Fatalf("error %v, want %v", err, tc.want)
			}
			if err == nil {
				return
			}
			if err := c.Done([]byte("v=" + strings.Repeat("A", 43) + "=")); err == nil || c.Authenticated() {
				t.Error("a failed log-in went on")
			}
		})
	}
}

func TestClientSignature(t *testing.T) {
	v := testVerifier(t, "secret")
	challenge := []byte("r=CLIENTSERVER,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=2")
	for _, tc := range []struct {
		name, msg string
		want      error
	}{
		{"wrong", "v=" + strings.Repeat("A", 43) + "=", ErrServerSignature},
		{"short", "v=AAAA", ErrServerMessage},
		{"refusal", "e=other-error", ErrServerMessage},
		{"empty", "", ErrServerMessage},
		{"more behind", "v=" + strings.Repeat("A", 43) + "=,x=1", ErrServerMessage},
		{"too long", "v=" + strings.Repeat("A", MaxMessage), ErrServerMessage},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newTestClient(t, v)
			if _, err := c.Next(challenge); err != nil {
				t.Fatal(err)
			}
			if err := c.Done([]byte(tc.msg)); !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			if c.Authenticated() {
				t.Error("authenticated by a wrong signature")
			}
		})
	}
	// A signature before the challenge must not count either.
	c := newTestClient(t, v)
	if err := c.Done([]byte("v=" + strings.Repeat("A", 43) + "=")); !errors.Is(err, ErrServerMessage) {
		t.Errorf("error %v, want ErrServerMessage", err)
	}
}
