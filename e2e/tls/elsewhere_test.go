// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tls

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// How who is in between behaves.
const (
	passes    = iota // a router: bytes
	encrypts         // ends TLS with a certificate of his own, and begins it anew towards the server
	withholds        // the same, and says that the server cannot bind
	decrypts         // ends TLS, and logs in to the server in clear, which so cannot bind
)

// between is somebody on the way to a server.
type between struct {
	server string
	cert   tls.Certificate

	mu    sync.Mutex
	how   int
	asked int    // how often he has asked a node to log in
	heard []byte // what the last node said of its log-in, behind the startup packet
}

func (b *between) be(how int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.how, b.heard = how, nil
}

func (b *between) serve(l net.Listener) {
	for {
		node, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer node.Close()
			server, err := net.Dial("tcp", b.server)
			if err != nil {
				return
			}
			defer server.Close()
			b.mu.Lock()
			how := b.how
			b.mu.Unlock()
			if how == passes {
				join(node, server, nil)
				return
			}
			b.encrypt(node, server, how)
		}()
	}
}

// join copies both ways until either ends.
func join(node, server net.Conn, heard io.Writer) {
	go func() {
		defer server.Close()
		from := io.Reader(node)
		if heard != nil {
			from = io.TeeReader(node, heard)
		}
		_, _ = io.Copy(server, from) // either end may go first
	}()
	_, _ = io.Copy(node, server) // as above
}

// encrypt goes on where both have asked for TLS.
func (b *between) encrypt(node, server net.Conn, how int) {
	var first [len(sslRequest)]byte
	if _, err := io.ReadFull(node, first[:]); err != nil || string(first[:]) != sslRequest {
		return
	}
	far := server
	if how != decrypts {
		if _, err := io.WriteString(server, sslRequest); err != nil {
			return
		}
		var answer [1]byte
		if _, err := io.ReadFull(server, answer[:]); err != nil || answer[0] != 'S' {
			return
		}
		far = tls.Client(server, &tls.Config{InsecureSkipVerify: true}) // he does not mind
	}
	if _, err := io.WriteString(node, "S"); err != nil {
		return
	}
	near := tls.Server(node, &tls.Config{Certificates: []tls.Certificate{b.cert}})
	startup, err := packet(near, 0)
	if err != nil {
		return
	}
	if _, err := far.Write(startup); err != nil {
		return
	}
	mechanisms, err := packet(far, 1)
	if err != nil {
		return
	}
	if how == withholds {
		mechanisms = bytes.Replace(mechanisms, []byte("SCRAM-SHA-256-PLUS\x00"), nil, 1)
		binary.BigEndian.PutUint32(mechanisms[1:], uint32(len(mechanisms)-1))
	}
	b.mu.Lock()
	b.asked++
	b.mu.Unlock()
	if _, err := near.Write(mechanisms); err != nil {
		return
	}
	join(near, far, b)
}

// Write keeps what the node says.
func (b *between) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard = append(b.heard, p...)
	return len(p), nil
}

// packet reads one, whose length is behind its type.
func packet(from io.Reader, typ int) ([]byte, error) {
	p := make([]byte, typ+4)
	if _, err := io.ReadFull(from, p); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(p[typ:])) + typ
	if n < len(p) || n > 10_000 {
		return nil, errors.New("no packet")
	}
	p = append(p, make([]byte, n-len(p))...)
	_, err := io.ReadFull(from, p[typ+4:])
	return p, err
}

// TestServerElsewhere: a server on another host is reached only by TLS, whatever
// VAULT_PG_SSLMODE lets a node do on its own.
func TestServerElsewhere(t *testing.T) {
	host := otherAddress(t)
	for _, server := range []struct {
		name string
		own  *authority // nil: no TLS
		want [6]string  // by the order of modes
	}{
		{"TLS", newAuthority(t, "own"), [6]string{refused, inTLS, inTLS, inTLS, inTLS, inTLS}},
		{"no TLS", nil, [6]string{refused, refused, refused, refused, refused, refused}},
	} {
		t.Run(server.name, func(t *testing.T) {
			settings := map[string]string{"VAULT_PROXY_HBA": "off"}
			if server.own != nil {
				settings["VAULT_PG_SSLROOTCERT"] = server.own.File
				serveAt(t, server.own, host)
			}
			settings["VAULT_LOCAL_PG"] = listenAt(t, host, &between{server: shared.Nodes[0].Postgres})
			settings["VAULT_PG_HOSTS"] = settings["VAULT_LOCAL_PG"]
			for i, mode := range []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"} {
				settings["VAULT_PG_SSLMODE"] = mode
				node := shared.Nodes[0].StartUnready(t, settings)
				if got := verdict(t, node.Proxy); got != server.want[i] {
					t.Errorf("%s: got %q, want %q", mode, got, server.want[i])
				}
			}
		})
	}
}

// TestServiceRoleIsBound: who is on the way to a server with a certificate of the right
// authority, but of another host, gets nothing of the service role by verify-ca either, or
// he could hand out verifiers of his own making.
func TestServiceRoleIsBound(t *testing.T) {
	host, own := otherAddress(t), newAuthority(t, "own")
	serveAt(t, own, host)
	b := &between{server: shared.Nodes[0].Postgres, how: decrypts, cert: pair(t, own, "other.example")}
	address := listenAt(t, host, b)
	node := shared.Nodes[0].StartUnready(t, map[string]string{
		"VAULT_LOCAL_PG": address, "VAULT_PG_HOSTS": address, "VAULT_PG_SSLMODE": "verify-ca", "VAULT_PG_SSLROOTCERT": own.File, "VAULT_PROXY_HBA": "off",
	})
	cluster.Eventually(t, "the node to come as far as its log-in", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.asked > 0
	})
	if got := verdict(t, node.Proxy); got != refused {
		t.Errorf("got %q, want %q", got, refused)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.heard) != 0 {
		t.Errorf("he heard %q, want nothing behind the startup packet", b.heard)
	}
}

func pair(t *testing.T, a *authority, name string) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(a.issue(t, tomorrow(), name))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// TestNobodyInBetween: where a certificate is not verified, who ends TLS on the way to a
// server elsewhere gets no session, and no proof of a password if he says that the server
// cannot bind.
func TestNobodyInBetween(t *testing.T) {
	host, own := otherAddress(t), newAuthority(t, "own")
	serveAt(t, own, host)
	b := &between{server: shared.Nodes[0].Postgres, cert: pair(t, newAuthority(t, "his"), "localhost")}
	address := listenAt(t, host, b)
	node := shared.Nodes[0].StartLoose(t, map[string]string{
		"VAULT_LOCAL_PG": address, "VAULT_PG_HOSTS": address, "VAULT_PG_SSLMODE": "require", "VAULT_PROXY_HBA": "off",
	})
	// The node's own connections are there by now: it is the sessions' that he gets.
	for _, c := range []struct {
		how  int
		want string // of the error
		said string // the node, at the log-in
	}{
		{passes, "", ""},
		{encrypts, "SCRAM channel binding check failed", "SCRAM-SHA-256-PLUS"},
		{withholds, "neither verified nor bound to its certificate", ""},
		{passes, "", ""},
	} {
		b.be(c.how)
		var pe *pgconn.PgError
		cluster.Eventually(t, "an answer that is about the session", func() bool { // the node's own connections may be busy
			conn, err := pgx.Connect(t.Context(), shared.AddressDSN(node.Proxy, shared.User))
			if err == nil {
				_ = conn.Close(t.Context()) // it was let in, which is all
			}
			pe = nil
			return err == nil || errors.As(err, &pe) && pe.Code != refused
		})
		if (pe == nil) != (c.want == "") || pe != nil && !strings.Contains(pe.Message, c.want) {
			t.Errorf("%d: got %v, want %q", c.how, pe, c.want)
		}
		b.mu.Lock()
		if (c.said == "") != (len(b.heard) == 0) || !bytes.Contains(b.heard, []byte(c.said)) {
			t.Errorf("%d: the node said %q, want %q in it", c.how, b.heard, c.said)
		}
		b.mu.Unlock()
	}
}

// serveAt gives the first server a certificate for an address.
func serveAt(t *testing.T, a *authority, host string) {
	t.Helper()
	cert, key := a.issue(t, tomorrow(), "localhost", net.ParseIP(host))
	configure(t, 0, map[string]string{"ssl": "on", "ssl_cert_file": place(t, 0, cert), "ssl_key_file": place(t, 0, key), "ssl_ca_file": place(t, 0, a.File)})
}

// listenAt has somebody listen at an address until the test ends.
func listenAt(t *testing.T, host string, b *between) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // its end
	go b.serve(l)
	return l.Addr().String()
}
