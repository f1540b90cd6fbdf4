// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestReadsItsWrites: while the standby replays nothing, a token reads at its node
// what it wrote there; afterwards at the standby again.
func TestReadsItsWrites(t *testing.T) {
	admin, other := shared.AdminToken, token(t, "read", "own/*")
	want(t, 201, 1, admin, "POST", "/v1/secrets", `{"name":"own/a","kind":"manual","value":"one"}`)
	want(t, 200, 1, admin, "GET", "/v1/secrets/own/a", "") // the standby has it now
	resume := pauseReplay(t)
	defer resume()
	want(t, 200, 1, admin, "PUT", "/v1/secrets/own/a", `{"value":"two"}`)
	if a := want(t, 200, 1, admin, "GET", "/v1/secrets/own/a", ""); a.field("value") != "two" {
		t.Errorf("its own write: got %s", a.text)
	}
	if a := want(t, 200, 1, admin, "GET", "/v1/secrets?prefix=own/", ""); !strings.Contains(a.text, `"version":2`) {
		t.Errorf("its own write: got %s", a.text)
	}
	// Another one reads what the standby has: that it is behind is allowed.
	if a := want(t, 200, 1, other, "GET", "/v1/secrets/own/a", ""); a.field("value") != "one" {
		t.Errorf("the standby's own: got %s", a.text)
	}
	resume()
	shared.WaitReplayed(t, 1)
	for _, who := range []string{admin, other} {
		if a := want(t, 200, 1, who, "GET", "/v1/secrets/own/a", ""); a.field("value") != "two" {
			t.Errorf("after replay: got %s", a.text)
		}
	}
}

// TestPrimaryAway: without a primary writes are refused in bounded time, reads go on
// at the standby, and after a promotion writes follow.
func TestPrimaryAway(t *testing.T) {
	t.Parallel() // it mostly waits
	c := cluster.Start(t, cluster.Spec{Standbys: 1})
	after := wantAt(t, 201, c.Nodes[1].REST, c.AdminToken, "POST", "/v1/secrets", `{"name":"a","kind":"manual","value":"one"}`).header.Get(readAfter)
	c.WaitReplayed(t, 1)
	wantAt(t, 200, c.Nodes[1].REST, c.AdminToken, "GET", "/v1/secrets/a", "")
	if err := c.Nodes[0].KillServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	a := wantAt(t, 503, c.Nodes[1].REST, c.AdminToken, "PUT", "/v1/secrets/a", `{"value":"two"}`)
	if a.header.Get("Retry-After") == "" || a.field("code") != "primary" {
		t.Errorf("no primary: %s", a.text)
	}
	degraded(t, c.Nodes[1].REST, "primary")
	wantAt(t, 503, c.Nodes[0].REST, c.AdminToken, "GET", "/v1/secrets/a", "")
	a = call(t, c.Nodes[1].REST, c.AdminToken, "GET", "/v1/secrets/a", "", readAfter, "1/FFFFFFFF/0")
	if a.status != 503 || a.field("code") != "stale" || a.header.Get("Retry-After") == "" {
		t.Errorf("what only the primary has: got %d %s", a.status, a.text)
	}
	if a := wantAt(t, 200, c.Nodes[1].REST, c.AdminToken, "GET", "/v1/secrets/a", ""); a.field("value") != "one" {
		t.Errorf("got %s", a.text)
	}
	if err := c.Nodes[1].Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	cluster.Eventually(t, "a write at the new primary", func() bool {
		return call(t, c.Nodes[1].REST, c.AdminToken, "PUT", "/v1/secrets/a", `{"value":"three"}`).status == 200
	})
	if a := wantAt(t, 200, c.Nodes[1].REST, c.AdminToken, "GET", "/v1/secrets/a", ""); a.field("value") != "three" {
		t.Errorf("got %s", a.text)
	}
	// On the new timeline what was written on the old one is shown, as far as it is
	// not lost.
	for _, position := range []string{after, "1/FFFFFFFF/0"} {
		if a := call(t, c.Nodes[1].REST, c.AdminToken, "GET", "/v1/secrets/a", "", readAfter, position); a.status != 200 || a.field("value") != "three" {
			t.Errorf("after %s: got %d %s", position, a.status, a.text)
		}
	}
	if after := wantAt(t, 200, c.Nodes[1].REST, c.AdminToken, "PUT", "/v1/secrets/a", `{"value":"four"}`).header.Get(readAfter); !strings.HasPrefix(after, "2/") {
		t.Errorf("a position of the new timeline: %s", after)
	}
}

// TestWritesAskThePrimary: a node beside a standby that has fallen behind writes for nobody
// whose token or right is gone by now.
func TestWritesAskThePrimary(t *testing.T) {
	revoked, narrowed := token(t, "*", "behind/*"), token(t, "*", "behind/*")
	for _, name := range []string{"behind/a", "behind/b"} {
		want(t, 201, 1, revoked, "POST", "/v1/secrets", `{"name":"`+name+`","kind":"automatic"}`)
	}
	defer pauseReplay(t)()
	withdraw(t, revoked, false)
	withdraw(t, narrowed, true)
	for _, c := range []struct {
		status int
		token  string
	}{{401, revoked}, {403, narrowed}} {
		want(t, c.status, 1, c.token, "POST", "/v1/secrets/behind/a/rotate", "")
		want(t, c.status, 1, c.token, "PUT", "/v1/secrets/behind/a", `{"value":"x"}`)
		want(t, c.status, 1, c.token, "POST", "/v1/secrets", `{"name":"behind/c","kind":"automatic"}`)
		want(t, c.status, 1, c.token, "DELETE", "/v1/secrets/behind/b", "")
	}
	want(t, 200, 1, shared.AdminToken, "PUT", "/v1/secrets/behind/a", `{"value":"x"}`)
}
