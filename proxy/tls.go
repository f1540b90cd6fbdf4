// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/hyperiondb/hyperion-vault/proxy/scram"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// alpn is the protocol's registered name; direct TLS must negotiate it.
const alpn = "postgresql"

// SSLMode is libpq's sslmode (PostgreSQL manual, "SSL Support").
type SSLMode int

// The modes in the order of their strength.
const (
	SSLDisable SSLMode = iota
	SSLAllow
	SSLPrefer
	SSLRequire
	SSLVerifyCA
	SSLVerifyFull
)

var sslModes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

// ParseSSLMode reads libpq's word for a mode.
func ParseSSLMode(s string) (SSLMode, error) {
	for i, m := range sslModes {
		if s == m {
			return SSLMode(i), nil
		}
	}
	return 0, fmt.Errorf("should be one of disable, allow, prefer, require, verify-ca, verify-full")
}

func (m SSLMode) String() string { return sslModes[m] }

// ServerTLS says how the node speaks TLS with a server. A socket never does.
type ServerTLS struct {
	Mode  SSLMode
	Roots func() *x509.CertPool // who may sign its certificate now; nil, or that returns it: the system's
	Host  string                // the name that verify-full expects
}

// clientTLS is the node's own side of a client's TLS connection.
func (s *Server) clientTLS(ctx context.Context, nc net.Conn, direct bool) (*tls.Conn, error) {
	cfg := s.cfg.TLS.Clone()
	cfg.NextProtos = []string{alpn}
	if cfg.MinVersion < tls.VersionTLS12 {
		cfg.MinVersion = tls.VersionTLS12
	}
	if _, raw := nc.(syscall.Conn); raw {
		nc = wire.NewSocket(nc)
	}
	tc := tls.Server(nc, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS with the client: %w", err)
	}
	if direct && tc.ConnectionState().NegotiatedProtocol != alpn {
		return nil, errors.New("direct TLS without the ALPN protocol postgresql")
	}
	return tc, nil
}

// clientBinding is what a client's SCRAM can be bound to: the certificate that
// this node showed.
func (s *Server) clientBinding(nc net.Conn) scram.Binding {
	if _, ok := nc.(*tls.Conn); !ok {
		return scram.Binding{}
	}
	b := scram.Binding{TLS: true}
	cert := s.shownCertificate()
	if cert != nil {
		if h, ok := scram.CertHash(cert); ok {
			b.CertHash = h
		}
	}
	return b
}

// shownCertificate is the leaf that the handshake used. With several
// certificates the one shown cannot be told, so nothing can be bound.
func (s *Server) shownCertificate() *x509.Certificate {
	var chain *tls.Certificate
	switch {
	case s.cfg.TLS.GetCertificate != nil:
		c, err := s.cfg.TLS.GetCertificate(&tls.ClientHelloInfo{})
		if err != nil {
			return nil
		}
		chain = c
	case len(s.cfg.TLS.Certificates) == 1:
		chain = &s.cfg.TLS.Certificates[0]
	default:
		return nil
	}
	if chain.Leaf != nil {
		return chain.Leaf
	}
	leaf, err := x509.ParseCertificate(chain.Certificate[0])
	if err != nil {
		return nil
	}
	return leaf
}

// prefixConn gives back the byte that was read to recognise direct TLS.
type prefixConn struct {
	net.Conn
	first []byte
}

func (c *prefixConn) Read(p []byte) (int, error) {
	if len(c.first) > 0 && len(p) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

func serverBinding(nc net.Conn) scram.Binding {
	tc, ok := nc.(*tls.Conn)
	if !ok {
		return scram.Binding{}
	}
	b := scram.Binding{TLS: true}
	if certs := tc.ConnectionState().PeerCertificates; len(certs) > 0 {
		if h, ok := scram.CertHash(certs[0]); ok {
			b.CertHash = h
		}
	}
	return b
}

var errNoServerTLS = errors.New("the server does not speak TLS")

func isNoTLS(err error) bool { return errors.Is(err, errNoServerTLS) }

func (up *upstream) dialOnce(ctx context.Context, s *Server, mode SSLMode) (net.Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, up.Network, up.Addr)
	if err != nil {
		return nil, err
	}
	s.tune(nc)
	if mode < SSLPrefer {
		return nc, nil
	}
	secured, err := up.handshake(ctx, nc, mode)
	if err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return secured, nil
}

// handshake asks for TLS, and begins it. Where the server has none, prefer goes on in
// clear on the same connection, as libpq does: another one would cost the server another
// process.
func (up *upstream) handshake(ctx context.Context, nc net.Conn, mode SSLMode) (_ net.Conn, err error) {
	if err := nc.SetDeadline(deadlineOf(ctx)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(longAgo) }) //nolint:errcheck // closed next
	defer func() {
		if !stop() && err == nil { // the bound may yet be set on what would be in use
			err = ctx.Err()
		}
	}()
	if _, err := nc.Write([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}); err != nil { // SSLRequest, 80877103
		return nil, err
	}
	var answer [1]byte // exactly one byte: what follows belongs to TLS (CVE-2021-23222)
	if _, err := io.ReadFull(nc, answer[:]); err != nil {
		return nil, err
	}
	switch {
	case answer[0] == 'N' && mode == SSLPrefer:
		return nc, nil
	case answer[0] != 'S':
		return nil, errNoServerTLS
	}
	tc := tls.Client(wire.NewSocket(nc), up.tls.config())
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS with the server: %w", err)
	}
	return tc, nil
}

// config maps libpq's modes on crypto/tls: below verify-ca the certificate is
// not checked here (the log-in may still be bound to it), verify-ca checks the
// chain alone, and so does require if it was told whom to trust.
func (t *ServerTLS) config() *tls.Config {
	var roots *x509.CertPool
	if t.Roots != nil {
		roots = t.Roots()
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: t.Host, NextProtos: []string{alpn}}
	switch {
	case t.Mode == SSLVerifyFull:
	case t.Mode == SSLVerifyCA, t.Mode == SSLRequire && roots != nil:
		c.InsecureSkipVerify = true
		c.VerifyConnection = func(cs tls.ConnectionState) error { return verifyChain(cs, roots) }
	default:
		c.InsecureSkipVerify = true
	}
	return c
}

func verifyChain(cs tls.ConnectionState, roots *x509.CertPool) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the server showed no certificate")
	}
	inter := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		inter.AddCert(c)
	}
	_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: inter})
	return err
}

func isLoopbackHost(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
