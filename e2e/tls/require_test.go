// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tls

import (
	"net"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestRequireTLS has each word of VAULT_REQUIRE_TLS, for clients in clear and
// over TLS, from this host's loopback, which is exempt, and from elsewhere.
func TestRequireTLS(t *testing.T) {
	outside := otherAddress(t)
	rules(t, "host all all samehost scram-sha-256")
	cluster.Exec(t, shared.Connect(t, shared.DSN(0, shared.User)), "SELECT vault.put_secret('tls/secret', 's3cr3t')")
	for _, c := range []struct {
		word               string
		clear, tls, onHost string // what reading a secret gives
	}{
		{"all", "28000 at log-in", "s3cr3t", "s3cr3t"},
		{"secrets", "28000", "s3cr3t", "s3cr3t"},
		{"off", "s3cr3t", "s3cr3t", "s3cr3t"},
	} {
		t.Run(c.word, func(t *testing.T) {
			node := secure(t, map[string]string{
				"VAULT_REQUIRE_TLS": c.word, "VAULT_PROXY_LISTEN": net.JoinHostPort(outside, freePort(t)), "VAULT_ALLOWED_IPS": "samehost,loopback",
			})
			if got := secret(t, open(t, node.address)); got != c.clear {
				t.Errorf("in clear: got %s, want %s", got, c.clear)
			}
			encrypted, err := node.encrypt(t, node.config)
			if err != nil {
				t.Fatal(err)
			}
			if got := secret(t, encrypted); got != c.tls {
				t.Errorf("over TLS: got %s, want %s", got, c.tls)
			}
			local := secure(t, map[string]string{"VAULT_REQUIRE_TLS": c.word})
			if got := secret(t, open(t, local.address)); got != c.onHost {
				t.Errorf("on loopback: got %s, want %s", got, c.onHost)
			}
		})
	}
}

// secret logs in, runs what concerns nobody, and reads a secret.
func secret(t *testing.T, c *rawpg.Conn) string {
	t.Helper()
	if got := logIn(t, c, &rawpg.Scram{}); got != "in" {
		return got + " at log-in"
	}
	c.Ask(t, "T(n:23) D(1) C(SELECT_1) Z(I)", rawpg.Query("SELECT 1 AS n"))
	if err := c.Send(rawpg.Query("SELECT vault.read_secret('tls/secret') AS pw")); err != nil {
		t.Fatal(err)
	}
	text := "nothing"
	for {
		m, err := c.Receive()
		if err != nil {
			t.Fatal(err)
		}
		switch m.Type {
		case 'D':
			text = strings.TrimSuffix(strings.TrimPrefix(m.String(), "D("), ")")
		case 'E':
			text = c.Err.Code
		case 'Z':
			return text
		}
	}
}

// otherAddress is one of this host's that is not loopback: a client of it comes
// from there.
func otherAddress(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if ipnet, ok := a.(*net.IPNet); ok && ipnet.IP.To4() != nil && !ipnet.IP.IsLoopback() {
			return ipnet.IP.String()
		}
	}
	t.Fatal("this host has no address but loopback: nobody can come from elsewhere")
	return ""
}

func freePort(t *testing.T) string {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
