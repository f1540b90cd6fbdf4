// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tls

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// How a connection to a server may begin.
const (
	sslRequest    = "\x00\x00\x00\x08\x04\xd2\x16\x2f"
	cancelRequest = "\x00\x00\x00\x10\x04\xd2\x16\x2e"
)

// firsts passes connections on to a server and keeps the first packet of each.
type firsts struct {
	held chan struct{} // not nil: the end of a cancel request in clear waits for its close

	mu      sync.Mutex
	seen    []string
	stuffed string // what comes in clear behind the server's first byte, in one packet with it
}

// listen returns the address of a relay to target that ends with the test.
func (f *firsts) listen(t *testing.T, target string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // the relay's end
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			go f.pass(from, target)
		}
	}()
	return l.Addr().String()
}

func (f *firsts) pass(from net.Conn, target string) {
	defer from.Close()
	to, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer to.Close()
	var first [8]byte
	if _, err := io.ReadFull(from, first[:]); err != nil {
		return
	}
	f.mu.Lock()
	f.seen = append(f.seen, string(first[:]))
	stuffed := f.stuffed
	f.mu.Unlock()
	if _, err := to.Write(first[:]); err != nil {
		return
	}
	if stuffed != "" {
		var answer [1]byte
		if _, err := io.ReadFull(to, answer[:]); err != nil {
			return
		}
		if _, err := from.Write(append(answer[:], stuffed...)); err != nil {
			return
		}
	}
	go func() {
		_, _ = io.Copy(to, from) // either end may go first
		_ = to.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(from, to) // as above
	if f.held != nil && string(first[:]) == cancelRequest {
		<-f.held
	}
}

// TestCancelTowardsTheServer: where sessions go to the server by TLS, cancel
// requests do, and are delivered.
func TestCancelTowardsTheServer(t *testing.T) {
	own := newAuthority(t, "own")
	serveTLS(t, 0, own, tomorrow(), "")
	var relay firsts
	_, port, _ := strings.Cut(relay.listen(t, shared.Nodes[0].Postgres), ":")
	node := shared.Nodes[0].StartUnready(t, map[string]string{
		"VAULT_LOCAL_PG": "localhost:" + port, "VAULT_PG_HOSTS": "localhost:" + port,
		"VAULT_PG_SSLMODE": "verify-full", "VAULT_PG_SSLROOTCERT": own.File,
	})
	if got := verdict(t, node.Proxy); got != inTLS {
		t.Fatalf("the session: got %q, want %q", got, inTLS)
	}
	cancelled(t, node.Proxy)
	relay.mu.Lock()
	defer relay.mu.Unlock()
	for _, first := range relay.seen {
		if first != sslRequest {
			t.Errorf("a connection to the server began with %q, want SSLRequest", first)
		}
	}
	if len(relay.seen) < 3 { // the node's own, the session's, the cancel's
		t.Errorf("connections: got %d", len(relay.seen))
	}
}

// cancelled begins a statement through a node and cancels it, and returns its session
// and the connection that cancelled, when the statement has ended.
func cancelled(t *testing.T, proxy string) (c, stop *rawpg.Conn) {
	t.Helper()
	c = open(t, proxy)
	if got := logIn(t, c, &rawpg.Scram{}); got != "in" {
		t.Fatal(got)
	}
	if err := c.Send(rawpg.Query("SELECT 'begun' UNION ALL SELECT pg_sleep(60)::text")); err != nil {
		t.Fatal(err)
	}
	waitForStatement(t, c.PID)
	stop = open(t, proxy)
	if err := stop.Write(rawpg.CancelRequest(c.PID, c.Secret)); err != nil {
		t.Fatal(err)
	}
	c.Expect(t, "T(?column?:25) D(begun) E(57014) Z(I)")
	return c, stop
}

// TestNothingCrossesTheServersTLSSwitch: what somebody in between puts behind the
// server's "S" is no part of what the server then says (CVE-2021-23222).
func TestNothingCrossesTheServersTLSSwitch(t *testing.T) {
	own := newAuthority(t, "own")
	serveTLS(t, 0, own, tomorrow(), "")
	var relay firsts
	_, port, _ := strings.Cut(relay.listen(t, shared.Nodes[0].Postgres), ":")
	node := shared.Nodes[0].StartLoose(t, map[string]string{
		"VAULT_LOCAL_PG": "localhost:" + port, "VAULT_PG_HOSTS": "localhost:" + port,
		"VAULT_PG_SSLMODE": "verify-full", "VAULT_PG_SSLROOTCERT": own.File,
	})
	// The node's own connections are there by now: it is the sessions' that have it.
	for _, c := range []struct{ stuffed, want string }{{"", inTLS}, {"R\x00\x00\x00\x08\x00\x00\x00\x00", refused}, {"x", refused}, {"", inTLS}} {
		relay.mu.Lock()
		relay.stuffed = c.stuffed
		relay.mu.Unlock()
		if got := verdict(t, node.Proxy); got != c.want {
			t.Errorf("with %q: got %q, want %q", c.stuffed, got, c.want)
		}
	}
}

// TestCancelEndsWithTheServers: the connection that cancels stays open until the
// server has closed its own, for a client takes its end as "delivered".
func TestCancelEndsWithTheServers(t *testing.T) {
	relay := firsts{held: make(chan struct{})}
	address := relay.listen(t, shared.Nodes[0].Postgres)
	node := shared.Nodes[0].StartLoose(t, map[string]string{"VAULT_LOCAL_PG": address, "VAULT_PG_SSLMODE": "disable"}) // it is told by its first bytes
	c, stop := cancelled(t, node.Proxy)
	// The server has acted. A node that goes by that, or by nothing, ends it now.
	if err := stop.Net.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := stop.Net.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("before the server's end: %d bytes, %v", n, err)
	}
	close(relay.held)
	if rest, err := stop.ReadRest(); err != nil || len(rest) > 0 {
		t.Errorf("answered %q, %v", rest, err)
	}
	c.Settled(t, "I")
}
