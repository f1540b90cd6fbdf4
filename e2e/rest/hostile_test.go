// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

var (
	requests = flag.Int("requests", 5000, "random requests that TestRandomRequests sends")
	seed     = flag.Uint64("seed", 0, "of the random requests; 0: by the clock")
	only     = flag.Int("request", -1, "send only this one of the seed's")
)

// TestRandomRequests sends what nobody should: none is a fault of the node's, none
// keeps it busy, none gets a value that its sender may not have, none shows what
// goes on inside, and nothing is left of them.
func TestRandomRequests(t *testing.T) {
	t.Parallel() // on a cluster of its own
	h := newHostile(t)
	if *only >= 0 {
		t.Logf("%q is answered %q", generate(h.seed, *only, h.generator).text, h.send(t, *only))
		return
	}
	warm := min(*requests/2, 500) // connections, caches
	h.run(t, 0, warm)
	before := h.usage(t, nil)
	h.run(t, warm, *requests)
	t.Logf("%d requests of seed %d; statuses %v", *requests, h.seed, h.statuses)
	for _, status := range []int{200, 201, 204, 400, 401, 403, 404, 405, 409} {
		if *requests >= 5000 && h.statuses[status] == 0 {
			t.Errorf("none was answered %d", status)
		}
	}
	if *requests >= 5000 && h.statuses[412]+h.statuses[413]+h.statuses[415] == 0 { // a few of each
		t.Error("none was answered 412, 413 or 415")
	}
	h.usage(t, before)
	h.untouched(t)
	h.logs(t)
}

// hostile is two nodes that ask for an address and a token, as packages have them.
type hostile struct {
	generator
	c    *cluster.Cluster
	seed uint64

	inside *regexp.Regexp // what no answer has
	mu     sync.Mutex
	// statuses counts answers; 0: the connection was closed without one.
	statuses map[int]int
	failures atomic.Int32
}

// Values that must not come to who may not read them.
const (
	openCanary    = "open canary Jm4cVd0s"
	privateCanary = "private canary 9fKe2LqX"
	pairCanary    = "pair canary Tz8wYb1n"
	bytesCanary   = "bytes canary Rk5pHg3v\xff"
)

func newHostile(t *testing.T) *hostile {
	t.Helper()
	h := &hostile{seed: *seed, statuses: map[int]int{}}
	if h.seed == 0 {
		h.seed = uint64(time.Now().UnixNano())
	}
	settings := cluster.LogAll()
	settings["fsync"] = "off" // nothing here survives the test
	h.c = cluster.Start(t, cluster.Spec{Standbys: 1, Settings: settings, NodeEnv: map[string]string{
		"VAULT_READ_AUTH": "both", "VAULT_LOG_LEVEL": "debug", // which has all that the HTTP server says
		"VAULT_AUTH_LOCKOUT_SECS": "0", // all come from one address
	}})
	h.admin, h.limited, h.other = h.c.AdminToken, "hvt_limited4Gc8Wq", "hvt_revoked2Vb6Np"
	super := h.c.Connect(t, h.c.SuperDSN(0))
	cluster.Exec(t, super, "INSERT INTO vault.roles (name) VALUES ('limited')")
	for _, action := range []string{"read", "verify", "list"} {
		cluster.Exec(t, super, "INSERT INTO vault.role_permissions SELECT id, $1, 'hostile/open' FROM vault.roles WHERE name = 'limited'", action)
	}
	for name, token := range map[string]string{"limited": h.limited, "revoked": h.other} {
		hash := sha256.Sum256([]byte(token))
		cluster.Exec(t, super, "SELECT vault.add_token($1, 'limited', $2)", name, hash[:])
	}
	cluster.Exec(t, super, "UPDATE vault.admin_tokens SET revoked_at = now() WHERE name = 'revoked'")
	for _, body := range []string{
		`{"name":"hostile/open","kind":"automatic","value":"` + openCanary + `"}`, `{"name":"hostile/private","kind":"automatic","value":"` + privateCanary + `"}`,
		`{"name":"hostile/pair","kind":"automatic","username":"u","password":"` + pairCanary + `"}`,
		`{"name":"hostile/bytes","kind":"manual","value_base64":"` + base64.StdEncoding.EncodeToString([]byte(bytesCanary)) + `"}`,
	} {
		if a := call(t, h.c.Nodes[0].REST, h.admin, "POST", "/v1/secrets", body); a.status != 201 {
			t.Fatalf("create: %d %s", a.status, a.text)
		}
	}
	h.c.WaitReplayed(t, 1)
	inside := []string{"SELECT", `vault\.`, "pgx", "pgconn", "pq:", "SQLSTATE", "goroutine", `\.go:`, "runtime error", "panic", "hv1\\.", "postgres", regexp.QuoteMeta(h.c.Dir())}
	for _, n := range h.c.Nodes {
		inside = append(inside, regexp.QuoteMeta(n.Postgres), regexp.QuoteMeta(n.Proxy))
	}
	if host, err := os.Hostname(); err == nil && host != "localhost" {
		inside = append(inside, `["\s]`+regexp.QuoteMeta(host)+`[\\"\s.:]`) // a short one is in many a value
	}
	h.inside = regexp.MustCompile(strings.Join(inside, "|"))
	return h
}

// run sends the requests from one to another, some at a time.
func (h *hostile) run(t *testing.T, from, to int) {
	t.Helper()
	var next atomic.Int64
	next.Store(int64(from))
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < to && h.failures.Load() < 20; i = int(next.Add(1)) - 1 {
				h.judge(t, i, h.send(t, i))
			}
		})
	}
	workers.Wait()
}

// made is what a node makes by chance: in 43 such characters any three letters may stand.
var made = regexp.MustCompile(`"(?:value|password|token)":"(?:hvt_)?[\w-]{43}"`)

var statusLine = regexp.MustCompile(`(?m)^HTTP/1\.[01] (\d{3})`)

func (h *hostile) judge(t *testing.T, i int, answer string) {
	t.Helper()
	e := generate(h.seed, i, h.generator)
	fail := func(what string) {
		h.failures.Add(1)
		text := e.text
		if len(text) > 2000 {
			text = text[:2000] + "…"
		}
		t.Errorf("-seed %d -request %d: %s: %q was answered %.3000q", h.seed, i, what, text, answer)
	}
	values := []string{h.admin, h.limited, privateCanary, pairCanary, base64.StdEncoding.EncodeToString([]byte(bytesCanary))}
	if !e.limited {
		values = append(values, openCanary)
	}
	for _, value := range values {
		if strings.Contains(answer, value) {
			fail("a value")
		}
	}
	if found := h.inside.FindString(made.ReplaceAllString(answer, `""`)); found != "" {
		fail("it shows " + found)
	}
	statuses := statusLine.FindAllStringSubmatch(answer, -1)
	h.mu.Lock()
	if len(statuses) == 0 {
		h.statuses[0]++
	}
	for _, s := range statuses {
		var status int
		_, _ = fmt.Sscan(s[1], &status) // three digits
		h.statuses[status]++
	}
	h.mu.Unlock()
	for _, s := range statuses {
		// What was closed before it was answered is given up (which HEAD is told without
		// words); what HTTP does not have is not built.
		if s[1] >= "500" && s[1] != "501" && s[1] != "505" && (e.whole || s[1] != "503" || !strings.Contains(answer, `"canceled"`) && !strings.Contains(e.text, "HEAD ")) {
			fail("a fault")
		}
	}
}

// send sends an attempt and returns what comes back until the node closes.
func (h *hostile) send(t *testing.T, i int) string {
	t.Helper()
	e := generate(h.seed, i, h.generator)
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(h.c.Nodes[i%2].REST, "http://"))
	if err != nil {
		h.failures.Add(1)
		t.Errorf("-seed %d -request %d: %v", h.seed, i, err)
		return ""
	}
	defer func() { _ = conn.Close() }() // the answer was read
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Error(err)
	}
	_, _ = io.WriteString(conn, e.text) // it may close before it has read all
	if tcp, ok := conn.(*net.TCPConn); ok && !e.whole {
		_ = tcp.CloseWrite() // the same
	}
	text, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		h.failures.Add(1)
		t.Errorf("-seed %d -request %d: %.2000q was not answered", h.seed, i, e.text)
	}
	return string(text)
}

// figures is what a node uses.
type figures struct{ goroutines, files, resident float64 }

// usage is what the nodes use; once they have come back to what they used before.
func (h *hostile) usage(t *testing.T, before []figures) []figures {
	t.Helper()
	all := make([]figures, len(h.c.Nodes))
	for i, n := range h.c.Nodes {
		read := func() bool {
			f := figures{n.Metric(t, "go_goroutines"), n.Metric(t, "process_open_fds"), float64(n.Resident(t))}
			all[i] = f
			// A few connections to servers come and go.
			return before == nil || f.goroutines <= before[i].goroutines+40 && f.files <= before[i].files+20 && f.resident <= before[i].resident+64<<20
		}
		cluster.Eventually(t, "the node to use no more than before", read)
		if before != nil {
			t.Logf("%s: %.0f goroutines, %.0f files, %.0f MB; before %.0f, %.0f, %.0f", n.Name, all[i].goroutines, all[i].files, all[i].resident/(1<<20),
				before[i].goroutines, before[i].files, before[i].resident/(1<<20))
		}
	}
	return all
}

// untouched: what nobody might change is as it was.
func (h *hostile) untouched(t *testing.T) {
	t.Helper()
	for node := range h.c.Nodes {
		for name, value := range map[string]string{"open": openCanary, "private": privateCanary, "pair": pairCanary, "bytes": base64.StdEncoding.EncodeToString([]byte(bytesCanary))} {
			a := call(t, h.c.Nodes[node].REST, h.admin, "GET", "/v1/secrets/hostile/"+name, "")
			if a.status != 200 || !strings.Contains(a.text, value) || a.fields["version"] != 1.0 {
				t.Errorf("%s: got %d %s", name, a.status, a.text)
			}
		}
	}
}

// logs has neither a panic nor a value nor a token.
func (h *hostile) logs(t *testing.T) {
	t.Helper()
	hidden := []string{openCanary, privateCanary, pairCanary, bytesCanary, hostileCanary, h.admin, h.limited, h.other}
	h.c.NeverSent(t, hidden...)
	for _, n := range h.c.Nodes {
		log, err := os.ReadFile(n.Log)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range append(hidden, "panic", "internal error") {
			if at := strings.Index(string(log), text); at >= 0 {
				t.Errorf("the log of %s has %q: %.1000s", n.Name, text, log[max(0, at-200):])
			}
		}
	}
}

// TestSlowClients: who does not send on is not waited for.
func TestSlowClients(t *testing.T) {
	t.Parallel() // it mostly waits
	body := "POST /v1/secrets HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + shared.AdminToken + "\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
	conns := []net.Conn{}
	for _, request := range []string{"GET /v1/sec", body} {
		conn := dial(t, shared.Nodes[0].REST)
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
