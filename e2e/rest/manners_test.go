// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// statuses are those of the answers in a text.
func statuses(text string) string {
	var found []string
	for _, part := range strings.Split(text, "HTTP/1.")[1:] {
		if f := strings.Fields(part); len(f) > 1 {
			found = append(found, f[1])
		}
	}
	return strings.Join(found, " ")
}

// last is sent behind what is tried: who is answered 405 as well has kept its
// connection.
const last = "PUT /openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

// talk sends bytes, and last, and returns what comes back until the node closes.
func talk(t *testing.T, sent string) string {
	t.Helper()
	conn := dial(t, shared.Nodes[0].REST)
	defer conn.Close()
	_, _ = conn.Write([]byte(sent + last)) // it may close before it has read all
	text, _ := io.ReadAll(conn)            // what came counts
	return string(text)
}

// TestHTTP sends what no library would, byte for byte.
func TestHTTP(t *testing.T) {
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"http/a","kind":"manual","value":"rest manners"}`)
	const get, host, end = "GET /v1/secrets/http/a HTTP/1.1\r\n", "Host: localhost\r\n", "\r\n"
	verify := "POST /v1/secrets/http/a/verify HTTP/1.1\r\n" + host
	typed := verify + "Content-Type: application/json\r\n"
	candidate := `{"value":"rest manners"}`
	sized := func(body string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body) }
	for name, c := range map[string]struct{ sent, statuses string }{
		"a request":               {get + host + end, "200 405"},
		"three at once":           {get + host + end + get + "Host: 127.0.0.1:8200\r\n\r\n" + "GET /v1/secrets/http/none HTTP/1.1\r\n" + host + end, "200 200 404 405"},
		"behind a body":           {typed + sized(candidate) + get + host + end, "200 200 405"},
		"behind the last one":     {get + host + "Connection: close\r\n" + end + get + host + end, "200"},
		"HTTP/1.0":                {"GET /v1/secrets/http/a HTTP/1.0\r\n" + host + end + get + host + end, "200"},
		"HTTP/1.0 of nobody":      {"GET /v1/secrets/http/a HTTP/1.0\r\n\r\n", "403"},
		"HTTP/1.1 of nobody":      {get + end, "400"},
		"of two":                  {get + host + host + end, "400"},
		"HTTP/3.0":                {"GET / HTTP/3.0\r\n" + host + end, "505"},
		"no HTTP":                 {"hello\r\n\r\n", "400"},
		"by its whole address":    {"GET http://localhost/v1/secrets/http/a HTTP/1.1\r\nHost: evil.example\r\n\r\n", "200 405"},
		"by another's address":    {"GET http://evil.example/v1/secrets/http/a HTTP/1.1\r\n" + host + end, "403 405"},
		"as of a proxy":           {"CONNECT localhost:5432 HTTP/1.1\r\n" + host + end, "404 405"},
		"for all":                 {"OPTIONS * HTTP/1.1\r\n" + host + end, "404 405"},
		"HEAD":                    {"HEAD /v1/secrets/http/a HTTP/1.1\r\n" + host + end + get + host + end, "200 200 405"},
		"a name as it is":         {"GET /v1/secrets/http%2Fa HTTP/1.1\r\n" + host + end, "200 405"},
		"dots":                    {"GET /v1/secrets/x/../http/a HTTP/1.1\r\n" + host + end, "400 405"},
		"dots, hidden":            {"GET /v1/secrets/x%2f%2e%2e%2fhttp%2fa HTTP/1.1\r\n" + host + end, "400 405"},
		"two slashes":             {"GET /v1/secrets/http//a HTTP/1.1\r\n" + host + end, "400 405"},
		"two at the beginning":    {"GET //v1/secrets/http/a HTTP/1.1\r\n" + host + end, "404 405"},
		"one at the end":          {"GET /v1/secrets/http/a/ HTTP/1.1\r\n" + host + end, "400 405"},
		"no name":                 {"GET /v1/secrets/ HTTP/1.1\r\n" + host + end, "400 405"},
		"a NUL":                   {"GET /v1/secrets/http/a%00 HTTP/1.1\r\n" + host + end, "400 405"},
		"half an escape":          {"GET /v1/secrets/http/a% HTTP/1.1\r\n" + host + end, "400"},
		"a space":                 {"GET /v1/secrets/http/a b HTTP/1.1\r\n" + host + end, "400"},
		"a question alone":        {"GET /v1/secrets/http/a? HTTP/1.1\r\n" + host + end, "200 405"},
		"a fragment":              {"GET /v1/secrets/http/a#b HTTP/1.1\r\n" + host + end, "400 405"},
		"what it would accept":    {get + host + "Accept: text/html\r\n" + end, "200 405"},
		"a long address":          {"GET /v1/secrets/" + strings.Repeat("a", 32<<10) + " HTTP/1.1\r\n" + host + end, "431"},
		"a long header":           {get + host + "X-Long: " + strings.Repeat("a", 32<<10) + "\r\n\r\n", "431"},
		"a header on two lines":   {get + host + "X-Two: a\r\n b\r\n\r\n", "200 405"},
		"a header without a name": {get + host + ": a\r\n\r\n", "400"},
		"a space in a name":       {get + host + "Content-Length : 0\r\n\r\n", "400"},
		"two tokens":              {get + host + "Authorization: Bearer a\r\nAuthorization: Bearer a\r\n\r\n", "401 405"},
		"two origins":             {get + host + "Origin: http://localhost\r\nOrigin: http://localhost\r\n\r\n", "403 405"},
		"its own origin":          {get + host + "Origin: http://localhost\r\n\r\n", "200 405"},
		"no body":                 {typed + end, "400 405"},
		"an empty body":           {typed + sized(""), "400 405"},
		"no type":                 {verify + sized(candidate), "415 405"},
		"two types":               {typed + "Content-Type: application/json\r\n" + sized(candidate), "415 405"},
		"with a charset":          {verify + "Content-Type: application/json; charset=utf-8\r\n" + sized(candidate), "200 405"},
		"another charset":         {verify + "Content-Type: application/json; charset=latin1\r\n" + sized(candidate), "415 405"},
		"compressed":              {typed + "Content-Encoding: gzip\r\n" + sized("\x1f\x8b\x08\x00"), "415 405"},
		"a byte order mark":       {typed + sized("\ufeff"+candidate), "400 405"},
		"two lengths":             {typed + "Content-Length: 3\r\n" + sized(candidate), "400"},
		"a negative length":       {typed + "Content-Length: -1\r\n\r\n", "400"},
		"a length with a sign":    {typed + "Content-Length: +2\r\n\r\n{}", "400"},
		"in chunks":               {typed + "Transfer-Encoding: chunked\r\n\r\n" + chunk(candidate) + "0\r\n\r\n" + get + host + end, "200 200 405"},
		"in chunks, compressed":   {typed + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"},
		"in chunks twice":         {typed + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "501"},
		"a chunk of no size":      {typed + "Transfer-Encoding: chunked\r\n\r\nx\r\n", "400"},
		"another expectation":     {typed + "Expect: miracles\r\n" + sized(candidate), "417"},
	} {
		if text := talk(t, c.sent); statuses(text) != c.statuses {
			t.Errorf("%s: got %q, want %q: %.300s", name, statuses(text), c.statuses, text)
		}
	}
}

// TestBrokenBodies: half a body is none, in a length or in chunks.
func TestBrokenBodies(t *testing.T) {
	head := "POST /v1/secrets HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer " + shared.AdminToken + "\r\n"
	whole := `{"name":"broken/a","kind":"manual","value":"x"}`
	for name, sent := range map[string]string{
		"by its length": fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(whole)+1, whole),
		"in chunks":     "Transfer-Encoding: chunked\r\n\r\n" + chunk(whole),
		"in a chunk":    "Transfer-Encoding: chunked\r\n\r\n" + chunk(whole) + "5\r\nab",
	} {
		if text := exchange(t, shared.Nodes[0].REST, head+sent); statuses(text) == "201" {
			t.Errorf("%s: got %s", name, text)
		}
	}
	want(t, 404, 0, shared.AdminToken, "GET", "/v1/secrets/broken/a", "")
}

func chunk(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }

// TestTwoLengths: of a length and chunks the chunks count, wherever the length would
// have ended: what stands behind them is a request of its own, and none is hidden in
// a body.
func TestTwoLengths(t *testing.T) {
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"lengths/a","kind":"manual","value":"rest manners"}`)
	hidden := "GET /v1/secrets/lengths/a HTTP/1.1\r\nHost: localhost\r\n\r\n"
	for name, sent := range map[string]string{
		"the length ends before": "Content-Length: 4\r\n\r\n" + chunk(`{"value":"x"}`) + "0\r\n\r\n",
		"the length ends behind": fmt.Sprintf("Content-Length: %d\r\n\r\n", 100+len(hidden)) + chunk(`{"value":"x"}`) + "0\r\n\r\n",
	} {
		text := talk(t, "POST /v1/secrets/lengths/a/verify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"+sent+hidden)
		if got := statuses(text); got != "200 200 405" {
			t.Errorf("%s: got %q: %s", name, got, text)
		}
	}
}

// TestHead is GET without what GET is asked for.
func TestHead(t *testing.T) {
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"head/a","kind":"manual","value":"rest manners"}`)
	for _, path := range []string{"/v1/secrets/head/a", "/v1/secrets/head/a/versions", "/v1/secrets?prefix=head/", "/openapi.json"} {
		whole, head := want(t, 200, 0, shared.AdminToken, "GET", path, ""), want(t, 200, 0, shared.AdminToken, "HEAD", path, "")
		if head.text != "" || head.header.Get("Content-Length") != whole.header.Get("Content-Length") || head.header.Get("ETag") != whole.header.Get("ETag") {
			t.Errorf("%s: got %q %v, GET has %v", path, head.text, head.header, whole.header)
		}
	}
	if a := want(t, 204, 0, "", "OPTIONS", "/v1/secrets/head/a", ""); a.header.Get("Allow") != "DELETE, GET, HEAD, OPTIONS, PUT" {
		t.Errorf("OPTIONS: %v", a.header)
	}
}

// TestExpect: who may send a body is told to, and who may not is not waited for.
func TestExpect(t *testing.T) {
	head := func(token string) string {
		return "POST /v1/secrets HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 100\r\nAuthorization: Bearer " + token + "\r\n\r\n"
	}
	conn := dial(t, shared.Nodes[0].REST)
	if _, err := conn.Write([]byte(head("hvt_none"))); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(conn); err != nil || statuses(string(text)) != "401" {
		t.Errorf("an unknown token: %v: %s", err, text)
	}
	conn = dial(t, shared.Nodes[0].REST)
	if _, err := conn.Write([]byte(head(shared.AdminToken))); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	body := `{"name":"expect/a","kind":"manual","value":"x","description":"`
	if _, err := conn.Write([]byte(body + strings.Repeat("d", 100-len(body)-2) + `"}`)); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(r); err != nil || statuses(string(text)) != "201" {
		t.Errorf("got %s, %v", text, err)
	}
}

// TestSlowBodies: who sends large bodies slowly, as many as one may, keeps no other
// client waiting.
func TestSlowBodies(t *testing.T) {
	t.Parallel() // it mostly waits
	slow, other := token(t, "*", "slow/*"), token(t, "*", "slow/*")
	head := func(token, name string, length int) string {
		return fmt.Sprintf("POST /v1/secrets HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", token, length) +
			`{"name":"slow/` + name + `","kind":"manual","value":"`
	}
	for range 100 {
		conn := dial(t, shared.Nodes[0].REST)
		if _, err := conn.Write([]byte(head(slow, "none", 1<<20) + strings.Repeat("x", 8<<10))); err != nil {
			t.Fatal(err)
		}
	}
	value := strings.Repeat("x", 100<<10)
	for i := range 20 {
		start := time.Now()
		want(t, 201, 0, other, "POST", "/v1/secrets", fmt.Sprintf(`{"name":"slow/%d","kind":"manual","value":"%s"}`, i, value))
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("another client's took %s", took)
		}
	}
	want(t, 201, 0, slow, "POST", "/v1/secrets", `{"name":"slow/small","kind":"manual","value":"x"}`)
	a := want(t, 503, 0, slow, "POST", "/v1/secrets", `{"name":"slow/large","kind":"manual","value":"`+value+`"}`)
	if a.field("code") != "busy" || a.header.Get("Retry-After") == "" {
		t.Errorf("its own large one: %s %v", a.text, a.header)
	}
}

// TestDrain: a node that is told to end answers what it has begun, and begins nothing.
func TestDrain(t *testing.T) {
	t.Parallel() // it mostly waits
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"drain/a","kind":"manual","value":"one"}`)
	loose := shared.Nodes[0].StartLoose(t, map[string]string{"VAULT_DRAIN_SECS": "20"})
	node, address := loose.REST, strings.TrimPrefix(loose.REST, "http://")
	idle := dial(t, address)

	// One writes the name by SQL and waits; another one by REST waits for it.
	holder, super := shared.Connect(t, shared.DSN(0, shared.User)), shared.Connect(t, shared.SuperDSN(0))
	cluster.Exec(t, holder, "BEGIN")
	cluster.Text(t, holder, "SELECT vault.put_secret('drain/a', 'two')::text")
	// A session in a transaction keeps the node from ending before the request does.
	session := shared.Connect(t, shared.AddressDSN(loose.Proxy, shared.User))
	cluster.Exec(t, session, "BEGIN")
	cluster.Text(t, session, "SELECT 'x'")
	put := dial(t, address)
	body := `{"value":"three"}`
	if _, err := fmt.Fprintf(put, "PUT /v1/secrets/drain/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		shared.AdminToken, len(body), body); err != nil {
		t.Fatal(err)
	}
	cluster.Eventually(t, "the request to wait", func() bool {
		return cluster.Text(t, super, "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'vault_service'") == "1"
	})
	if err := syscall.Kill(loose.PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	cluster.Eventually(t, "the node to drain", func() bool { return plainly(t, "GET", node+"/readyz") == 503 })
	a := call(t, node, shared.AdminToken, "GET", "/v1/secrets/drain/a", "")
	if a.status != 503 || a.field("code") != "not_ready" || a.header.Get("Retry-After") == "" {
		t.Errorf("a new request: got %d %s %v", a.status, a.text, a.header)
	}
	if _, err := idle.Write([]byte("GET /v1/secrets/drain/a HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(idle); err != nil || statuses(string(text)) != "503" || !strings.Contains(string(text), "Connection: close") {
		t.Errorf("on a connection from before: %v: %s", err, text)
	}
	if got := plainly(t, http.MethodGet, node+"/primary"); got != 503 {
		t.Errorf("primary: got %d", got)
	}
	// The last session ends; the request has the rest of the time, and ends by its own.
	cluster.Exec(t, session, "COMMIT")
	if text, err := io.ReadAll(put); err != nil || statuses(string(text)) != "503" || !strings.Contains(string(text), `"code":"busy"`) {
		t.Errorf("the request that was begun: %v: %s", err, text)
	}
	cluster.Exec(t, holder, "COMMIT")
	cluster.Eventually(t, "the node to end", func() bool { return syscall.Kill(loose.PID, 0) != nil || !cluster.Listens(t, address) })
	if a := want(t, 200, 0, shared.AdminToken, "GET", "/v1/secrets/drain/a", ""); a.field("value") != "two" {
		t.Errorf("got %s", a.text)
	}
}
