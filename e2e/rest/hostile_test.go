// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestRandomRequests sends what nobody should: none is a fault of the node's, none
// gets a value, and none shows what goes on inside.
func TestRandomRequests(t *testing.T) {
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"hostile/a","kind":"manual","value":"rest hostile canary","allowed_cidrs":["10.0.0.0/8"]}`)
	nobody := token(t)
	seed := uint64(time.Now().UnixNano())
	dice := rand.New(rand.NewPCG(seed, 1))
	pick := func(list ...string) string { return list[dice.IntN(len(list))] }
	bytes := func(n int) string {
		b := make([]byte, dice.IntN(n))
		for i := range b {
			b[i] = byte(dice.IntN(256))
		}
		return string(b)
	}
	statuses := map[int]int{}
	for i := range 3000 {
		path := pick("/v1/secrets", "/v1/secrets/hostile/a", "/v1/secrets/hostile%2Fa", "/v1/batch/secrets", "/v1/roles", "/v1/roles/a/permissions", "/v1/tokens", "/v1/tokens/a", "/", "*", "http://x/v1/secrets/a", "/v1/secrets/"+strings.Map(func(r rune) rune {
			if r <= ' ' || r > '~' {
				return '%'
			}
			return r
		}, bytes(30))) + pick("", "", "/verify", "/rotate", "/versions", "/", "//", "/..", "%00", "?version=1", "?version=-1", "?limit=1", "?"+strings.Repeat("a=b&", dice.IntN(50)))
		body := pick("", `{"value":"x"}`, `{"names":["hostile/a"]}`, `{"name":"hostile/a","kind":"manual","value":"x"}`, `{"name":"a","permissions":[{"action":"*","path":"*"}]}`, `{"name":"a","role":"admin"}`, `{"value":`, bytes(60), "{\"value\":\""+bytes(60)+"\"}")
		request := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", pick("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW", "get"), path, pick("127.0.0.1", "localhost", "[::1]:8200", "evil", "")) +
			pick("", "Authorization: Bearer "+nobody+"\r\n", "Authorization: Bearer x\r\n", "Authorization: "+strings.ReplaceAll(strings.ReplaceAll(bytes(20), "\n", ""), "\r", "")+"\r\n") +
			pick("", "Content-Type: application/json\r\n", "Content-Type: application/json; charset=latin1\r\n", "Content-Type: \"\r\n") +
			pick("", "If-Match: \"1\"\r\n", "If-Match: x\r\n", "Origin: null\r\n", "X-Request-Id: \x7f\r\n", "Transfer-Encoding: chunked\r\n", "Expect: 100-continue\r\n") +
			fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body)+pickInt(dice, 0, 0, 0, 0, -1), body)
		answer := exchange(t, i%2, request)
		if strings.Contains(answer, "canary") || strings.Contains(answer, "vault.") || strings.Contains(answer, "goroutine") {
			t.Fatalf("seed %d: %q was answered %s", seed, request, answer)
		}
		status := 0
		_, _ = fmt.Sscanf(answer, "HTTP/1.1 %d", &status) // 0: the connection was closed
		statuses[status]++
		gone := status == 503 && (strings.Contains(answer, `"canceled"`) || strings.HasPrefix(request, "HEAD ")) // this end was closed before it was answered
		if status >= 500 && status != 505 && !gone {
			t.Errorf("seed %d: %q was answered %s", seed, request, answer)
		}
	}
	t.Logf("statuses: %v", statuses)
	if statuses[400] == 0 || statuses[401] == 0 || statuses[403] == 0 || statuses[404] == 0 || statuses[405] == 0 {
		t.Errorf("not all ways were gone: %v", statuses)
	}
	for _, n := range shared.Nodes {
		if log, err := os.ReadFile(n.Log); err != nil || strings.Contains(string(log), "panic") || strings.Contains(string(log), "rest hostile canary") {
			t.Errorf("the log of %s: %v, or it has a panic or a value", n.Name, err)
		}
	}
}

func pickInt(dice *rand.Rand, list ...int) int { return list[dice.IntN(len(list))] }

func dial(t *testing.T, node int) net.Conn {
	t.Helper()
	return dialTo(t, strings.TrimPrefix(shared.Nodes[node].REST, "http://"))
}

func dialTo(t *testing.T, address string) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(40 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// exchange sends bytes and returns what comes back until the node closes.
func exchange(t *testing.T, node int, request string) string {
	t.Helper()
	return say(t, strings.TrimPrefix(shared.Nodes[node].REST, "http://"), request)
}

// say is exchange with whoever listens at an address.
func say(t *testing.T, address, request string) string {
	t.Helper()
	conn := dialTo(t, address)
	defer conn.Close()
	_, _ = conn.Write([]byte(request)) // it may close before it has read all
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // the same
	}
	text, _ := io.ReadAll(conn) // what came counts
	return string(text)
}

// TestSlowClients: who does not send on is not waited for.
func TestSlowClients(t *testing.T) {
	body := "POST /v1/secrets HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + shared.AdminToken + "\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
	conns := []net.Conn{}
	for _, request := range []string{"GET /v1/sec", body} {
		conn := dial(t, 0)
		if _, err := conn.Write([]byte(request)); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	if text, err := io.ReadAll(conns[0]); err != nil {
		t.Errorf("half a head: %v, %q", err, text)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conns[1]), nil)
	if err != nil {
		t.Fatalf("half a body: %v", err)
	}
	if answer.Body.Close(); answer.StatusCode != 400 {
		t.Errorf("half a body: got %d", answer.StatusCode)
	}
}
