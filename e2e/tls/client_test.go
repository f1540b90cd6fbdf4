// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tls

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// A secured node has a certificate of an authority of its own.
type secured struct {
	address string
	pid     int
	own     *authority
	binding []byte // tls-server-end-point
	config  *tls.Config
}

func secure(t *testing.T, settings map[string]string) *secured {
	t.Helper()
	s := &secured{own: newAuthority(t, "node's")}
	cert, key := s.own.issue(t, time.Now().Add(time.Hour), "localhost", net.IPv4(127, 0, 0, 1))
	if settings == nil {
		settings = map[string]string{}
	}
	settings["VAULT_TLS_CERT"], settings["VAULT_TLS_KEY"] = cert, key
	loose := shared.Nodes[0].StartLoose(t, settings)
	s.address, s.pid = loose.Proxy, loose.PID
	block, _ := pem.Decode(read(t, cert))
	sum := sha256.Sum256(block.Bytes)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(read(t, s.own.File))
	s.binding, s.config = sum[:], &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	return s
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func open(t *testing.T, address string) *rawpg.Conn {
	t.Helper()
	c, err := rawpg.Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // its end was looked at
	if err := c.Net.SetDeadline(time.Now().Add(rawpg.Patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// encrypt asks for TLS and begins it.
func (s *secured) encrypt(t *testing.T, config *tls.Config) (*rawpg.Conn, error) {
	t.Helper()
	c := open(t, s.address)
	if err := c.Write(rawpg.Packet(rawpg.CodeSSL, "")); err != nil {
		t.Fatal(err)
	}
	if b, err := c.ReadByte(); b != 'S' {
		t.Fatalf("SSLRequest: %q, %v", b, err)
	}
	tc := tls.Client(c.Net, config)
	return rawpg.Over(tc), tc.HandshakeContext(t.Context())
}

// logIn is the outcome of a log-in: "in", or the SQLSTATE of its refusal.
func logIn(t *testing.T, c *rawpg.Conn, scram *rawpg.Scram) string {
	t.Helper()
	scram.Password = shared.Password
	if err := c.Write(rawpg.Startup(3<<16, "user", shared.User, "database", shared.Database)); err != nil {
		return "ended"
	}
	got, err := c.LogIn(scram)
	switch {
	case err == nil:
		return "in"
	case len(got) > 0 && got[len(got)-1].Type == 'E':
		return c.Err.Code
	}
	return "ended"
}

// TestChannelBinding is PostgreSQL's own matrix (auth-scram.c,
// read_client_first_message), on a connection with TLS and on one without.
func TestChannelBinding(t *testing.T) {
	node := secure(t, nil)
	const plus, bind = "SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,"
	for _, c := range []struct {
		name         string
		scram        rawpg.Scram
		tls, inClear string
	}{
		{"bound", rawpg.Scram{Mechanism: plus, GS2: bind, Binding: node.binding}, "in", "08P01"},
		{"bound to another certificate", rawpg.Scram{Mechanism: plus, GS2: bind, Binding: make([]byte, 32)}, "28000", "08P01"},
		{"bound to nothing", rawpg.Scram{Mechanism: plus, GS2: bind}, "28000", "08P01"},
		{"not bound", rawpg.Scram{}, "in", "in"},
		{"y: a client that could, and was not offered it: a downgrade over TLS", rawpg.Scram{GS2: "y,,"}, "28000", "in"},
		{"p without PLUS", rawpg.Scram{GS2: bind, Binding: node.binding}, "08P01", "08P01"},
		{"PLUS with n", rawpg.Scram{Mechanism: plus, GS2: "n,,"}, "08P01", "08P01"},
		{"PLUS with y", rawpg.Scram{Mechanism: plus, GS2: "y,,"}, "08P01", "08P01"},
		{"another kind of binding", rawpg.Scram{Mechanism: plus, GS2: "p=tls-unique,,", Binding: node.binding}, "08P01", "08P01"},
		{"an authorization identity", rawpg.Scram{GS2: "n,a=app,"}, "0A000", "0A000"},
		{"a mechanism that was not offered", rawpg.Scram{Mechanism: "PLAIN"}, "08P01", "08P01"},
	} {
		t.Run(c.name, func(t *testing.T) {
			encrypted, err := node.encrypt(t, node.config)
			if err != nil {
				t.Fatal(err)
			}
			scram := c.scram
			if got := logIn(t, encrypted, &scram); got != c.tls {
				t.Errorf("over TLS: got %s, want %s", got, c.tls)
			}
			scram = c.scram
			if got := logIn(t, open(t, node.address), &scram); got != c.inClear {
				t.Errorf("in clear: got %s, want %s", got, c.inClear)
			}
		})
	}
}

// TestOldTLS: what is older than TLS 1.2, and its weak ciphers, are refused.
func TestOldTLS(t *testing.T) {
	node := secure(t, nil)
	for name, c := range map[string]struct {
		change func(*tls.Config)
		ok     bool
	}{
		"TLS 1.3": {func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, true},
		"TLS 1.2": {func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true},
		"TLS 1.1": {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, false},
		"CBC without authentication": {func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_RSA_WITH_RC4_128_SHA}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			config := node.config.Clone()
			c.change(config)
			conn, err := node.encrypt(t, config)
			if (err == nil) != c.ok {
				t.Fatalf("handshake: %v, want ok %v", err, c.ok)
			}
			if err == nil && logIn(t, conn, &rawpg.Scram{}) != "in" {
				t.Error("not in")
			}
		})
	}
}

// TestNoRenegotiation: a client of TLS 1.2 that renegotiates gets nothing.
func TestNoRenegotiation(t *testing.T) {
	node := secure(t, nil)
	cmd := exec.CommandContext(t.Context(), "openssl", "s_client", "-starttls", "postgres", "-tls1_2", "-connect", node.address, "-CAfile", node.own.File)
	cmd.Stdin = strings.NewReader("R\n")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "RENEGOTIATING") || !strings.Contains(string(out), "SSL alert number 10") {
		t.Errorf("got %v, want a refused renegotiation:\n%s", err, out)
	}
}
