// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tls

import (
	"crypto/tls"
	"fmt"
	"net"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestClientCertificates: a node asks its clients for none, also not one that has one, and
// has none for the server. Where a line decides that wants one, it says so; where it is
// the server's line for the node alone, the server's words reach the client.
func TestClientCertificates(t *testing.T) {
	own := newAuthority(t, "own")
	for _, rule := range []string{
		"hostssl all %s 127.0.0.1/32 scram-sha-256 clientcert=verify-ca",
		"hostssl all %s 127.0.0.1/32 scram-sha-256 clientcert=verify-full",
		"hostssl all %s 127.0.0.1/32 cert",
	} {
		t.Run(rule, func(t *testing.T) {
			serveTLS(t, 0, own, tomorrow(), "")
			rules(t, fmt.Sprintf(rule, shared.User))
			node := secure(t, map[string]string{"VAULT_PG_SSLMODE": "require"})
			certificate, err := tls.LoadX509KeyPair(own.issue(t, tomorrow(), shared.User, net.IPv4(127, 0, 0, 1)))
			if err != nil {
				t.Fatal(err)
			}
			asked := false
			config := node.config.Clone()
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				asked = true
				return &certificate, nil
			}
			encrypted, err := node.encrypt(t, config)
			if err != nil || asked {
				t.Fatalf("handshake: %v; asked for a certificate: %v", err, asked)
			}
			for conn, want := range map[*rawpg.Conn]string{
				open(t, node.address): "connection requires a valid client certificate",
				encrypted:             "line 1 of pg_hba.conf decides about this connection, and a node cannot apply it",
			} {
				if got := logIn(t, conn, &rawpg.Scram{}); got != "28000" || conn.Err.Message != want {
					t.Errorf("got %s %v, want 28000 %s", got, conn.Err, want)
				}
			}
		})
	}
}

// TestALPN: who asks for TLS by SSLRequest may name the protocol, and none but ours.
// By direct TLS he has to.
func TestALPN(t *testing.T) {
	node := secure(t, nil)
	for _, c := range []struct {
		offered          []string
		behind, directly bool
	}{
		{nil, true, false},
		{[]string{"postgresql"}, true, true},
		{[]string{"h2", "postgresql"}, true, true},
		{[]string{"h2"}, false, false},
	} {
		t.Run(fmt.Sprint(c.offered), func(t *testing.T) {
			config := node.config.Clone()
			config.NextProtos = c.offered
			conn, err := node.encrypt(t, config)
			if in := err == nil && logIn(t, conn, &rawpg.Scram{}) == "in"; in != c.behind {
				t.Errorf("behind SSLRequest: in %v, want %v (%v)", in, c.behind, err)
			}
			tc := tls.Client(open(t, node.address).Net, config)
			err = tc.HandshakeContext(t.Context())
			in := err == nil && logIn(t, rawpg.Over(tc), &rawpg.Scram{}) == "in"
			if got := tc.ConnectionState().NegotiatedProtocol; in != c.directly || in && got != "postgresql" {
				t.Errorf("directly: in %v, want %v (%v), with protocol %q", in, c.directly, err, got)
			}
		})
	}
}
