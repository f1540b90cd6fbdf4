// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tls

import (
	"fmt"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestClientCertificates: a node asks its clients for none and has none for the
// server. What the server says to that reaches the client.
func TestClientCertificates(t *testing.T) {
	own := newAuthority(t, "own")
	for _, c := range []struct{ rule, message string }{
		{"hostssl all %s 127.0.0.1/32 scram-sha-256 clientcert=verify-ca", "connection requires a valid client certificate"},
		{"hostssl all %s 127.0.0.1/32 scram-sha-256 clientcert=verify-full", "connection requires a valid client certificate"},
		{"hostssl all %s 127.0.0.1/32 cert", "connection requires a valid client certificate"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			serveTLS(t, 0, own, tomorrow(), "")
			rules(t, fmt.Sprintf(c.rule, shared.User))
			node := shared.Nodes[0].StartLoose(t, map[string]string{"VAULT_PG_SSLMODE": "require"})
			conn := open(t, node.Proxy)
			if got := logIn(t, conn, &rawpg.Scram{}); got != "28000" || conn.Err.Message != c.message {
				t.Errorf("got %s %v, want 28000 %s", got, conn.Err, c.message)
			}
		})
	}
}
