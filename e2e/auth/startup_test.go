// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package auth

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

func dial(t *testing.T) net.Conn {
	t.Helper()
	var d net.Dialer
	nc, err := d.DialContext(t.Context(), "tcp", shared.Nodes[0].Proxy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(rawpg.Patience)); err != nil {
		t.Fatal(err)
	}
	return nc
}

func write(t *testing.T, w io.Writer, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
}

func readByte(t *testing.T, r io.Reader) byte {
	t.Helper()
	var b [1]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return b[0]
}

// message reads one whole message.
func message(t *testing.T, r io.Reader) (byte, []byte) {
	t.Helper()
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatalf("no message: %v", err)
	}
	body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
	if _, err := io.ReadFull(r, body); err != nil {
		t.Fatal(err)
	}
	return head[0], body
}

func tlsConfig(t *testing.T, protocols ...string) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(shared.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: protocols, MinVersion: tls.VersionTLS12}
}

// ended sees that the node closes the connection, behind one message that begins so;
// empty: without a word.
func ended(t *testing.T, r io.Reader, word string) {
	t.Helper()
	b, err := io.ReadAll(r)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		t.Fatal("the connection stays open")
	}
	if len(b) > 0 && word == "" || !bytes.HasPrefix(b, []byte(word)) {
		t.Errorf("answered %q, want %q", b, word)
	}
}

func TestEncryptionRequestsInEitherOrderOnce(t *testing.T) {
	nc := dial(t)
	write(t, nc, rawpg.Packet(rawpg.CodeGSS, ""))
	if got := readByte(t, nc); got != 'N' {
		t.Fatalf("GSSENCRequest answered %q", got)
	}
	write(t, nc, rawpg.Packet(rawpg.CodeSSL, ""))
	if got := readByte(t, nc); got != 'S' {
		t.Fatalf("SSLRequest answered %q", got)
	}
	tc := tls.Client(nc, tlsConfig(t))
	write(t, tc, rawpg.Packet(rawpg.CodeSSL, "")) // inside TLS: not a protocol version
	typ, body := message(t, tc)
	if typ != 'E' || !bytes.Contains(body, []byte("0A000")) {
		t.Errorf("a second SSLRequest got %q %q", typ, body)
	}

	nc = dial(t)
	write(t, nc, rawpg.Packet(rawpg.CodeGSS, ""))
	readByte(t, nc)
	write(t, nc, rawpg.Packet(rawpg.CodeGSS, ""))
	if typ, body = message(t, nc); typ != 'E' || !bytes.Contains(body, []byte("0A000")) {
		t.Errorf("a second GSSENCRequest got %q %q", typ, body)
	}
}

// What is sent in clear behind SSLRequest must not become part of the
// encrypted session, nor be dropped in silence (CVE-2021-23214): it is where a
// handshake should be, and ends the connection, even if a true one follows.
func TestNothingCrossesTheTLSSwitch(t *testing.T) {
	stuff := func(t *testing.T, stuffed []byte) net.Conn {
		t.Helper()
		nc := dial(t)
		write(t, nc, append(rawpg.Packet(rawpg.CodeSSL, ""), stuffed...))
		if got := readByte(t, nc); got != 'S' {
			t.Fatalf("answered %q", got)
		}
		return nc
	}
	startup := rawpg.Startup(3<<16, "user", "app")
	ended(t, stuff(t, startup), "")
	for name, stuffed := range map[string][]byte{
		"a startup packet":    startup,
		"another SSLRequest":  rawpg.Packet(rawpg.CodeSSL, ""),
		"a query":             {'Q', 0, 0, 0, 13, 's', 'e', 'l', 'e', 'c', 't', ' ', '1', 0},
		"a byte":              {0},
		"a record's worth":    {23, 3, 3, 0, 1, 0},
		"an alert in clear":   {21, 3, 3, 0, 2, 1, 0},
		"a record of nothing": {22, 3, 3, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tls.Client(stuff(t, stuffed), tlsConfig(t)).HandshakeContext(t.Context()); err == nil {
				t.Error("the handshake went on as if nothing had been sent ahead of it")
			}
		})
	}
}

func TestDirectTLSNeedsItsProtocol(t *testing.T) {
	tc := tls.Client(dial(t), tlsConfig(t, "postgresql"))
	write(t, tc, rawpg.Startup(3<<16, "user", "app"))
	if typ, body := message(t, tc); typ != 'R' || !bytes.Contains(body, []byte("SCRAM-SHA-256-PLUS")) {
		t.Errorf("got %q %q, want SASL with PLUS", typ, body)
	}
	for _, protocols := range [][]string{nil, {"h2"}} {
		tc := tls.Client(dial(t), tlsConfig(t, protocols...))
		if err := tc.HandshakeContext(t.Context()); err != nil {
			continue
		}
		write(t, tc, rawpg.Startup(3<<16, "user", "app"))
		ended(t, tc, "")
	}
}

func TestBadFirstPackets(t *testing.T) {
	const old = "EFATAL:  unsupported frontend protocol 2.0: " // what clients of that time can read
	for name, c := range map[string]struct {
		sent  []byte
		state string // SQLSTATE of the FATAL; empty: nothing is said
	}{
		"protocol 2":        {rawpg.Startup(2<<16, "user", "app"), old},
		"protocol 4":        {rawpg.Startup(4<<16, "user", "app"), "0A000"},
		"no user":           {rawpg.Startup(3<<16, "database", "x"), "28000"},
		"no terminator":     {rawpg.Packet(3<<16, "user\x00app"), "08P01"},
		"length of 1 GiB":   {[]byte{0x40, 0, 0, 0, 0, 3, 0, 0}, ""},
		"length of 4":       {[]byte{0, 0, 0, 4}, ""},
		"HTTP":              {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), ""},
		"only a few bytes":  {[]byte{0, 0}, ""},
		"a typed message":   {[]byte{'Q', 0, 0, 0, 13, 's', 'e', 'l', 'e', 'c', 't', ' ', '1', 0}, ""},
		"parameter cut off": {rawpg.Packet(3<<16, "user\x00"), "08P01"},
	} {
		t.Run(name, func(t *testing.T) {
			nc := dial(t)
			write(t, nc, c.sent)
			_ = nc.(*net.TCPConn).CloseWrite() // the node may have hung up already
			if c.state == "" || c.state == old {
				ended(t, nc, c.state)
				return
			}
			if typ, body := message(t, nc); typ != 'E' || !bytes.Contains(body, []byte("VFATAL\x00C"+c.state+"\x00")) {
				t.Errorf("got %q %q, want %s", typ, body, c.state)
			}
			ended(t, nc, "")
		})
	}
	if refused := login(t, shared.User, shared.Password, shared.Database); refused != nil {
		t.Errorf("afterwards: %v", refused)
	}
}

// libpq is the reference for channel binding.
func TestChannelBindingByLibpq(t *testing.T) {
	host, port, err := net.SplitHostPort(shared.Nodes[0].Proxy)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		options string
		ok      bool
	}{
		"required over TLS":  {"sslmode=verify-full channel_binding=require", true},
		"disabled over TLS":  {"sslmode=verify-full channel_binding=disable", true},
		"required in clear":  {"sslmode=disable channel_binding=require", false},
		"preferred in clear": {"sslmode=disable channel_binding=prefer", true},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "psql", "-X", "-At", "-c", "select 'in'",
				"host=localhost hostaddr="+host+" port="+port+" user="+shared.User+" dbname="+shared.Database+" sslrootcert="+shared.Certificate()+" "+c.options)
			cmd.Env = append(os.Environ(), "PGPASSWORD="+shared.Password)
			out, err := cmd.CombinedOutput()
			if in := err == nil && strings.TrimSpace(string(out)) == "in"; in != c.ok {
				t.Errorf("in: %v, want %v (%s)", in, c.ok, out)
			}
		})
	}
}

// SIGTERM lets a transaction end; the session hears 57P01 at its next idle
// point, and the node is gone then.
func TestDrain(t *testing.T) {
	node := shared.Nodes[0]
	busy, idle := dialRaw(t), dialRaw(t)
	busy.Ask(t, "C(BEGIN) Z(T)", rawpg.Query("begin"))
	stopped := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() { stopped <- node.StopNode(ctx) }()
	if m, err := idle.Receive(); err != nil || m.Type != 'E' || idle.Err.Code != "57P01" {
		t.Errorf("the idle session got %v %v, want 57P01", m, err)
	}
	busy.Ask(t, "T(?column?:23) D(1) C(SELECT_1) Z(T)", rawpg.Query("select 1"))
	if err := busy.Send(rawpg.Query("commit")); err != nil {
		t.Fatal(err)
	}
	busy.Expect(t, "C(COMMIT) Z(I)")
	if m, err := busy.Receive(); err != nil || m.Type != 'E' || busy.Err.Code != "57P01" {
		t.Errorf("the busy session got %v %v, want 57P01 after its COMMIT", m, err)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if err := node.StartNode(ctx); err != nil {
		t.Fatal(err)
	}
	cluster.Eventually(t, "the node to serve again", func() bool {
		return login(t, shared.User, shared.Password, shared.Database) == nil
	})
}

func dialRaw(t *testing.T) *rawpg.Conn {
	t.Helper()
	c, err := rawpg.Dial(t.Context(), shared.DSN(0, shared.User))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestServerAway: log-ins are refused with a word to each client, and the node's
// log is told from time to time.
func TestServerAway(t *testing.T) {
	nobody := cluster.FreeAddress(t)
	node := shared.Nodes[0].StartUnready(t, map[string]string{"VAULT_LOCAL_PG": nobody, "VAULT_PG_HOSTS": nobody})
	host, port, _ := strings.Cut(node.Proxy, ":")
	const tries = 30
	for range tries {
		conn, err := pgx.Connect(t.Context(), shared.DSN(0, shared.User)+" host="+host+" port="+port)
		if err == nil {
			conn.Close(t.Context())
			t.Fatal("logged in at no server")
		}
		if pe := new(pgconn.PgError); !errors.As(err, &pe) || pe.Code != "57P03" {
			t.Fatalf("got %v, want 57P03", err)
		}
	}
	log, err := os.ReadFile(node.Log)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), "log-ins are impossible"); n == 0 || n > tries/2 {
		t.Errorf("%d lines in the log for %d log-ins", n, tries)
	}
}
