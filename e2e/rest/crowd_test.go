// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestCrowd: however many connect and keep the node waiting, in whatever way, there
// are never more connections than may be, the node tells how it is, and answers who
// asks, or who asks again if tokens of nobody's are all that it can look at; so it does
// with as many requests under way as may be.
func TestCrowd(t *testing.T) {
	t.Parallel() // on a cluster of its own
	const most, spare = 100, 32
	c := cluster.Start(t, cluster.Spec{NodeEnv: map[string]string{"VAULT_API_MAX_CONNECTIONS": fmt.Sprint(most), "VAULT_AUTH_LOCKOUT_SECS": "0"}})
	n := c.Nodes[0]
	health := []string{"/readyz", "/healthz", "/primary"}
	ask := func(what string, patient bool) {
		t.Helper()
		for _, path := range health {
			if status := plainly(t, "GET", n.REST+path); status != 200 {
				t.Errorf("%s: %s: got %d", what, path, status)
			}
		}
		cluster.Eventually(t, "an answer, "+what, func() bool {
			a := call(t, n.REST, c.AdminToken, "GET", "/v1/secrets/crowd/a", "")
			if a.status != 200 && !(patient && a.status == 503 && a.field("code") == "busy") {
				t.Errorf("%s: got %d %s", what, a.status, a.text)
			}
			return a.status == 200
		})
	}
	wantAt(t, 201, n.REST, c.AdminToken, "POST", "/v1/secrets", `{"name":"crowd/a","kind":"manual","value":"a"}`)
	head := "Host: localhost\r\nAuthorization: Bearer " + c.AdminToken + "\r\nContent-Type: application/json\r\n"
	const nobodys = "PUT /v1/secrets/crowd/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer nobodys\r\nContent-Length: 1000\r\n\r\n{"
	for what, said := range map[string]string{
		"silent":           "",
		"half a head":      "GET /v1/secrets/crow",
		"idle, answered":   "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"idle, refused":    "GET /v1/secrets/crowd/a HTTP/1.1\r\nHost: evil.example\r\n\r\n",
		"half a body":      "PUT /v1/secrets/crowd/a HTTP/1.1\r\n" + head + "Content-Length: 1000\r\n\r\n{",
		"half, of nobody":  nobodys,
		"no HTTP":          "SSH-2.0-OpenSSH_9.2\r\n\r\n",
		"its last request": "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
	} {
		before := n.Metric(t, "hyperion_vault_limited_total", `limit="rest"`)
		var conns []net.Conn
		flood := 500
		if said == "" {
			flood = 4000
		}
		for i := range flood {
			conn, err := connect(t, n.REST)
			if err != nil {
				t.Fatalf("%s, connection %d: %v", what, i, err)
			}
			conns = append(conns, conn)
			_, _ = io.WriteString(conn, said) // it may be closed already
			if i%500 == 499 {
				ask(what, said == nobodys)
				if got := n.Metric(t, "hyperion_vault_rest_connections"); got > most+spare {
					t.Errorf("%s: %.0f connections, want at most %d", what, got, most+spare)
				}
			}
		}
		if turned := n.Metric(t, "hyperion_vault_limited_total", `limit="rest"`) - before; said == "" && turned < float64(flood-most-spare) {
			t.Errorf("%s: %.0f were turned away", what, turned)
		}
		for _, conn := range conns {
			conn.Close()
		}
		cluster.Eventually(t, "them to be forgotten", func() bool { return n.Metric(t, "hyperion_vault_rest_connections") < 10 })
		ask(what+", afterwards", said == nobodys) // some may be looked up yet
	}

	// Tokens of nobody's, more than can be looked at: what they wait for is locked.
	locker := c.Connect(t, c.SuperDSN(0))
	cluster.Exec(t, locker, "BEGIN")
	cluster.Exec(t, locker, "LOCK vault.admin_tokens")
	var strangers []net.Conn
	come := func(said string) net.Conn {
		conn := dial(t, n.REST)
		strangers = append(strangers, conn)
		_, _ = io.WriteString(conn, said)
		return conn
	}
	for range most + spare { // nobody makes room yet
		come(nobodys)
	}
	busy := func(conn net.Conn) bool {
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) // no answer: it is being looked up
		status := make([]byte, len("HTTP/1.1 503"))
		_, _ = io.ReadFull(conn, status)
		return string(status) == "HTTP/1.1 503"
	}
	for !busy(come("GET /v1/secrets/crowd/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer nobodys\r\n\r\n")) {
		for range 20 {
			busy(come(nobodys)) // it is not answered before it has said all, but heard before it makes room
		}
		if len(strangers) > 50*most {
			t.Fatal("there is room for any number of strangers")
		}
	}
	for _, path := range health {
		if status := plainly(t, "GET", n.REST+path); status != 200 {
			t.Errorf("%s behind tokens of nobody's: got %d", path, status)
		}
	}
	cluster.Exec(t, locker, "ROLLBACK")
	for _, conn := range strangers {
		conn.Close()
	}
	cluster.Eventually(t, "them to be forgotten", func() bool { return n.Metric(t, "hyperion_vault_rest_connections") < 10 })
	ask("afterwards, of nobody", true)

	// Requests under way: they wait for one who writes.
	for range 2 * spare {
		dial(t, n.REST)
	}
	writer := c.Connect(t, c.DSN(0, c.User))
	cluster.Exec(t, writer, "BEGIN")
	cluster.Exec(t, writer, "SELECT vault.put_secret('crowd/a', 'b')")
	var waiting sync.WaitGroup
	var enough atomic.Bool
	for range most + spare/2 {
		waiting.Go(func() {
			for !enough.Load() && !t.Failed() {
				if a := call(t, n.REST, c.AdminToken, "PUT", "/v1/secrets/crowd/a", `{"value":"c"}`); a.status != 200 && a.status != 503 {
					t.Errorf("a request that waits: got %d %s", a.status, a.text)
				}
			}
		})
	}
	cluster.Eventually(t, "the node to be busy", func() bool {
		a := call(t, n.REST, c.AdminToken, "GET", "/v1/secrets/crowd/a", "")
		return a.status == 503 && a.field("code") == "busy" && strings.Contains(a.text, "as many requests as it may") && a.header.Get("Retry-After") != ""
	})
	if status := plainly(t, "GET", n.REST+"/readyz"); status != 200 {
		t.Errorf("/readyz while the node is busy: got %d", status)
	}
	enough.Store(true)
	cluster.Exec(t, writer, "ROLLBACK")
	waiting.Wait()
	ask("afterwards", false)
}

// TestScrapers: connections to where the metrics are, however many and whatever they do,
// leave the node its own.
func TestScrapers(t *testing.T) {
	t.Parallel() // on a cluster of its own
	n := cluster.Start(t, cluster.Spec{}).Nodes[0]
	before := n.Metric(t, "process_open_fds")
	address := strings.TrimSuffix(n.Metrics, "/metrics")
	for _, said := range []string{"", "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"} {
		var conns []net.Conn
		for range 500 {
			conn, err := connect(t, address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, said) // it may have had to go
			conns = append(conns, conn)
		}
		cluster.Eventually(t, "the node to have let most go", func() bool { return n.Metric(t, "process_open_fds") < before+100 })
		for _, conn := range conns {
			conn.Close()
		}
	}
}
