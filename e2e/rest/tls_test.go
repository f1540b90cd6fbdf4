// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// writeCertificate makes a certificate for 127.0.0.1 and writes it and its key.
func writeCertificate(t *testing.T, serial int64, certPath, keyPath string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{certPath: {Type: "CERTIFICATE", Bytes: der}, keyPath: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// trusting is a client that trusts these certificates only, and keeps connections.
func trusting(t *testing.T, certs ...*x509.Certificate) http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	for _, c := range certs {
		roots.AddCert(c)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return http.Client{Timeout: 20 * time.Second, Transport: transport}
}

// A tlsNode is one whose REST is encrypted, since it listens beyond loopback.
type tlsNode struct {
	*cluster.Loose
	cert, key string // paths
	made      *x509.Certificate
}

func startTLS(t *testing.T) tlsNode {
	t.Helper()
	dir := t.TempDir()
	n := tlsNode{cert: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key")}
	n.made = writeCertificate(t, 1, n.cert, n.key)
	_, port, err := net.SplitHostPort(cluster.FreeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	n.Loose = shared.Nodes[0].StartUnready(t, map[string]string{"VAULT_API_LISTEN": "0.0.0.0:" + port, "VAULT_TLS_CERT": n.cert, "VAULT_TLS_KEY": n.key})
	n.REST = "https://127.0.0.1:" + port
	client := trusting(t, n.made)
	cluster.Eventually(t, "the node", func() bool { _, status := n.ready(t, client); return status == 200 })
	return n
}

// ready asks whether it is, and says by which protocol it was answered.
func (n tlsNode) ready(t *testing.T, client http.Client) (proto string, status int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.REST+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(r)
	if err != nil {
		return err.Error(), 0
	}
	response.Body.Close()
	return response.Proto, response.StatusCode
}

// TestTLS: beyond loopback REST is encrypted, by HTTP/1.1 also for who knows better,
// and a new certificate counts from the next connection on.
func TestTLS(t *testing.T) {
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"tls/a","kind":"manual","value":"rest tls"}`)
	node := startTLS(t)
	old := trusting(t, node.made)
	if proto, _ := node.ready(t, old); proto != "HTTP/1.1" {
		t.Errorf("spoken is %s", proto)
	}
	if a := send(t, old, node.REST, shared.AdminToken, "GET", "/v1/secrets/tls/a", ""); a.status != 200 || a.field("value") != "rest tls" {
		t.Errorf("over TLS: got %d %s", a.status, a.text)
	}
	if a := send(t, old, node.REST, shared.AdminToken, "PUT", "/v1/secrets/tls/a", `{"value":"rest tls 2"}`); a.status != 200 || !position.MatchString(a.header.Get(readAfter)) {
		t.Errorf("over TLS: got %d %s %v", a.status, a.text, a.header)
	}
	for i := range 3 { // of which the last is written by itself
		value, name := strings.Repeat("tls value", 1+i*1000), fmt.Sprintf("tls/long%d", i)
		if a := send(t, old, node.REST, shared.AdminToken, "POST", "/v1/secrets", `{"name":"`+name+`","kind":"manual","value":"`+value+`"}`); a.status != 201 {
			t.Errorf("got %d %.200s", a.status, a.text)
		}
		if a := send(t, old, node.REST, shared.AdminToken, "GET", "/v1/secrets/"+name, ""); a.status != 200 || a.field("value") != value {
			t.Errorf("got %d %.200s", a.status, a.text)
		}
	}
	address := strings.TrimPrefix(node.REST, "https://")
	h2 := tls.Client(dial(t, address), &tls.Config{RootCAs: old.Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "127.0.0.1", NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
	if err := h2.HandshakeContext(t.Context()); err == nil {
		t.Error("HTTP/2 is spoken")
	}
	one := old
	one.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: old.Transport.(*http.Transport).TLSClientConfig.RootCAs, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	if proto, status := node.ready(t, one); proto != "HTTP/1.1" || status != 200 {
		t.Errorf("by HTTP/1.1: %s, %d", proto, status)
	}
	if text := exchange(t, address, "GET /v1/secrets/tls/a HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); statuses(text) != "400" || strings.Contains(text, "rest tls") {
		t.Errorf("in clear: %s", text)
	}

	second := writeCertificate(t, 2, node.cert, node.key)
	if err := syscall.Kill(node.PID, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	cluster.Eventually(t, "the new certificate", func() bool { _, status := node.ready(t, trusting(t, second)); return status == 200 })
	if _, status := node.ready(t, old); status != 200 {
		t.Errorf("a connection from before: got %d", status)
	}
	if proto, status := node.ready(t, one); status != 0 {
		t.Errorf("the old certificate is still shown: %s", proto)
	}
}
