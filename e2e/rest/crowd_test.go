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

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestCrowd: however many connect and keep the node waiting, in whatever way, there
// are never more connections than may be, the node tells how it is, and answers who
// asks; so it does with as many requests under way as may be.
func TestCrowd(t *testing.T) {
	t.Parallel() // on a cluster of its own
	const most, spare = 100, 32
	c := cluster.Start(t, cluster.Spec{NodeEnv: map[string]string{"VAULT_API_MAX_CONNECTIONS": fmt.Sprint(most), "VAULT_AUTH_LOCKOUT_SECS": "0"}})
	n := c.Nodes[0]
	ask := func(what string) {
		t.Helper()
		for _, path := range []string{"/readyz", "/healthz", "/primary"} {
			if status := plainly(t, "GET", n.REST+path); status != 200 {
				t.Errorf("%s: %s: got %d", what, path, status)
			}
		}
		wantAt(t, 200, n.REST, c.AdminToken, "GET", "/v1/secrets/crowd/a", "")
	}
	wantAt(t, 201, n.REST, c.AdminToken, "POST", "/v1/secrets", `{"name":"crowd/a","kind":"manual","value":"a"}`)
	head := "Host: localhost\r\nAuthorization: Bearer " + c.AdminToken + "\r\nContent-Type: application/json\r\n"
	for what, said := range map[string]string{
		"silent":           "",
		"half a head":      "GET /v1/secrets/crow",
		"idle, answered":   "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"idle, refused":    "GET /v1/secrets/crowd/a HTTP/1.1\r\nHost: evil.example\r\n\r\n",
		"half a body":      "PUT /v1/secrets/crowd/a HTTP/1.1\r\n" + head + "Content-Length: 1000\r\n\r\n{",
		"half, of nobody":  "PUT /v1/secrets/crowd/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer nobodys\r\nContent-Length: 1000\r\n\r\n{",
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
				ask(what)
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
		ask(what + ", afterwards")
	}

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
	ask("afterwards")
}
