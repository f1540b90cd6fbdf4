// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

const readAfter = "Vault-Read-After"

var position = regexp.MustCompile(`^[1-9][0-9]*/[0-9A-F]{1,8}/[0-9A-F]{1,8}$`)

// pauseReplay lets the standby replay nothing until the test ends, or the function
// that it returns is called.
func pauseReplay(t *testing.T) (resume func()) {
	t.Helper()
	standby := shared.Connect(t, shared.SuperDSN(1))
	cluster.Exec(t, standby, "SELECT pg_wal_replay_pause()")
	resume = func() { cluster.Exec(t, standby, "SELECT pg_wal_replay_resume()") }
	cluster.Eventually(t, "replay to be paused", func() bool {
		return cluster.Text(t, standby, "SELECT pg_get_wal_replay_pause_state()") == "paused"
	})
	return resume
}

// TestReadAfter: what a write was answered with makes anybody's read at another node
// see it, whatever the standby there shows.
func TestReadAfter(t *testing.T) {
	admin, other := shared.AdminToken, token(t, "*", "after/*")
	if a := want(t, 201, 0, admin, "POST", "/v1/secrets", `{"name":"after/a","kind":"automatic","value":"one"}`); !position.MatchString(a.header.Get(readAfter)) {
		t.Errorf("no position: %v", a.header)
	}
	shared.WaitReplayed(t, 1)
	resume := pauseReplay(t)
	defer resume()
	a := want(t, 200, 0, admin, "PUT", "/v1/secrets/after/a", `{"value":"two"}`)
	after := a.header.Get(readAfter)
	if !position.MatchString(after) {
		t.Fatalf("no position: %v", a.header)
	}
	if a := want(t, 200, 1, other, "GET", "/v1/secrets/after/a", ""); a.field("value") != "one" || a.header.Get(readAfter) != "" {
		t.Errorf("what the standby shows: got %s %v", a.text, a.header)
	}
	var reads sync.WaitGroup // each waits for the standby first
	for _, c := range []struct{ method, path, body, want string }{
		{"GET", "/v1/secrets/after/a", "", `"value":"two"`},
		{"HEAD", "/v1/secrets/after/a", "", ""},
		{"GET", "/v1/secrets/after/a/versions", "", `"version":2`},
		{"GET", "/v1/secrets?prefix=after/", "", `"version":2`},
		{"POST", "/v1/secrets/after/a/verify", `{"value":"two"}`, `"version":2`},
		{"POST", "/v1/batch/secrets", `{"names":["after/a"]}`, `"value":"two"`},
	} {
		for _, who := range []string{admin, other} {
			reads.Go(func() {
				if a := want(t, 200, 1, who, c.method, c.path, c.body, readAfter, after); !strings.Contains(a.text, c.want) {
					t.Errorf("%s %s after the write: got %s", c.method, c.path, a.text)
				}
			})
		}
	}
	reads.Wait()
	if a := want(t, 200, 1, "", "GET", "/v1/secrets/after/a", "", readAfter, after); a.field("value") != "two" {
		t.Errorf("without a token: got %s", a.text)
	}
	want(t, 200, 0, other, "GET", "/v1/secrets/after/a", "", readAfter, after)

	// Each way to write tells.
	for _, c := range []struct{ method, path, body string }{
		{"PUT", "/v1/secrets/after/a", `{"description":"x"}`}, {"POST", "/v1/secrets/after/a/rotate", ""}, {"DELETE", "/v1/secrets/after/a", ""},
	} {
		a := call(t, shared.Nodes[1].REST, admin, c.method, c.path, c.body)
		if a.status > 204 || !position.MatchString(a.header.Get(readAfter)) {
			t.Errorf("%s: got %d, position %q", c.method, a.status, a.header.Get(readAfter))
		}
		after = a.header.Get(readAfter)
	}
	want(t, 404, 1, other, "GET", "/v1/secrets/after/a", "", readAfter, after)
	want(t, 200, 1, other, "GET", "/v1/secrets/after/a", "") // so far as the standby knows
	resume()
	shared.WaitReplayed(t, 1)
	want(t, 404, 1, other, "GET", "/v1/secrets/after/a", "", readAfter, after)
}

// TestReadAfterNowhere: positions that nobody has told, and what they may cost.
func TestReadAfterNowhere(t *testing.T) {
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"nowhere/a","kind":"manual","value":"one"}`)
	shared.WaitReplayed(t, 1)
	reader := token(t, "read", "nowhere/*")
	for _, bad := range []string{"x", "0/3000148", "0/0/3000148", "1/0/300014g", "1/0/03000148", strings.Repeat("1", 5000)} {
		want(t, 400, 0, reader, "GET", "/v1/secrets/nowhere/a", "", readAfter, bad)
	}
	want(t, 403, 0, reader, "GET", "/v1/secrets/other", "", readAfter, "7/0/1") // a refusal waits for nothing
	for node := range shared.Nodes {
		start := time.Now()
		a := want(t, 503, node, reader, "GET", "/v1/secrets/nowhere/a", "", readAfter, "4294967295/0/1")
		if a.field("code") != "stale" || a.header.Get("Retry-After") == "" {
			t.Errorf("a timeline that nobody is on: got %s %v", a.text, a.header)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
	}

	// Far ahead of all that is written: the primary has all of it that there is. Many
	// who ask so get an answer each, and keep no write waiting.
	ahead := "1/FFFFFFFF/0"
	if a := want(t, 200, 1, reader, "GET", "/v1/secrets/nowhere/a", "", readAfter, ahead); a.field("value") != "one" {
		t.Errorf("far ahead: got %s", a.text)
	}
	var flood sync.WaitGroup
	statuses := make([]int, 100)
	for i := range statuses {
		flood.Go(func() {
			statuses[i] = call(t, shared.Nodes[1].REST, reader, "GET", "/v1/secrets/nowhere/a", "", readAfter, ahead).status
		})
	}
	for i := range 5 {
		want(t, 200, 1, shared.AdminToken, "PUT", "/v1/secrets/nowhere/a", fmt.Sprintf(`{"description":"%d"}`, i))
	}
	flood.Wait()
	for _, status := range statuses {
		if status != 200 && status != 503 {
			t.Errorf("a flood was answered %d", status)
		}
	}
}

// TestStale: past VAULT_MAX_STALENESS a standby opens nothing by REST either, but for
// who is sent to the primary; and what asks for the node's health is told.
func TestStale(t *testing.T) {
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"stale/a","kind":"manual","value":"one"}`)
	shared.WaitReplayed(t, 1)
	node := shared.Nodes[1].StartLoose(t, map[string]string{"VAULT_MAX_STALENESS": "2s"}).REST
	get := func(path string, headers ...string) answer {
		return call(t, node, shared.AdminToken, "GET", path, "", headers...)
	}
	cluster.Eventually(t, "the standby to be fresh", func() bool {
		return get("/v1/secrets/stale/a").status == 200 && plainly(t, "GET", node+"/replica") == 200
	})
	if plainly(t, "GET", node+"/readyz?require=lag") != 200 {
		t.Error("lag: it is not fresh")
	}
	resume := pauseReplay(t)
	defer resume()
	after := want(t, 200, 0, shared.AdminToken, "PUT", "/v1/secrets/stale/a", `{"value":"two"}`).header.Get(readAfter)
	cluster.Eventually(t, "the standby to be too old", func() bool { return get("/v1/secrets/stale/a").status == 503 })
	a := get("/v1/secrets/stale/a")
	if a.status != 503 || a.field("code") != "stale" || a.header.Get("Retry-After") == "" {
		t.Errorf("stale: got %d %s %v", a.status, a.text, a.header)
	}
	if a := call(t, node, shared.AdminToken, "POST", "/v1/secrets/stale/a/verify", `{"value":"one"}`); a.status != 503 {
		t.Errorf("verify: got %d %s", a.status, a.text)
	}
	if a := get("/v1/secrets/stale/a", readAfter, after); a.status != 200 || a.field("value") != "two" {
		t.Errorf("at the primary: got %d %s", a.status, a.text)
	}
	for path, status := range map[string]int{"/readyz": 200, "/readyz?require=lag": 503, "/readyz?require=primary,kms": 200, "/replica": 503, "/primary": 503} {
		if got := plainly(t, "GET", node+path); got != status {
			t.Errorf("%s: got %d, want %d", path, got, status)
		}
	}
	resume()
	cluster.Eventually(t, "the standby to be fresh again", func() bool { return get("/v1/secrets/stale/a").field("value") == "two" })
}
