// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// fronted are settings of a node behind a proxy on this host: X-Forwarded-For says
// who asks.
var fronted = map[string]string{
	"VAULT_TRUST_PROXY": "127.0.0.1", "VAULT_ALLOWED_IPS": "198.51.100.0/24, 2001:db8::/32", "VAULT_AUTH_MAX_FAILURES": "3", "VAULT_AUTH_LOCKOUT_SECS": "900",
	"VAULT_AUDIT_LOGINS": "failed",
}

// wantFrom is wantAt for who asks from an address, as the proxy says.
func wantFrom(t *testing.T, status int, base, address, token, path string) answer {
	t.Helper()
	return wantAt(t, status, base, token, "GET", path, "", "X-Forwarded-For", address)
}

// TestLockout: from an address that sends unknown tokens nothing but valid ones and
// reads without one are let in, at every node; and no other address suffers.
func TestLockout(t *testing.T) {
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"lock/a","kind":"manual","value":"x"}`)
	shared.WaitReplayed(t, 1)
	one, two := shared.Nodes[0].StartLoose(t, fronted), shared.Nodes[1].StartLoose(t, fronted)
	for _, c := range []struct{ address, other, inet string }{
		{"198.51.100.7", "198.51.100.8", "198.51.100.7/32"},
		{"2001:db8::1", "2001:db8:0:1::1", "2001:db8::/64"},
	} {
		for range 3 {
			wantFrom(t, 401, one.REST, c.address, "hvt_none", "/v1/secrets/lock/a")
		}
		a := wantFrom(t, 429, one.REST, c.address, "hvt_none", "/v1/secrets/lock/a")
		if secs, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || secs < 800 || secs > 900 || a.field("code") != "limited" || a.header.Get("WWW-Authenticate") != "" {
			t.Errorf("locked: %s %v", a.text, a.header)
		}
		wantFrom(t, 429, one.REST, c.address, "hvt_none", "/v1/tokens")
		wantFrom(t, 200, one.REST, c.address, shared.AdminToken, "/v1/secrets/lock/a")
		wantFrom(t, 200, one.REST, c.address, shared.AdminToken, "/v1/tokens")
		wantFrom(t, 429, one.REST, c.address, "hvt_none", "/v1/secrets/lock/a") // that does not unlock it
		wantFrom(t, 200, one.REST, c.address, "", "/v1/secrets/lock/a")
		wantFrom(t, 401, one.REST, c.address, "", "/v1/tokens")
		wantFrom(t, 401, one.REST, c.other, "hvt_none", "/v1/secrets/lock/a")

		// At the other node as soon as its server shows it.
		standby := shared.Connect(t, shared.SuperDSN(1))
		cluster.Eventually(t, "the lock at the standby", func() bool {
			return cluster.Text(t, standby, "SELECT count(*)::text FROM vault.auth_lockouts WHERE client_ip = $1::inet AND locked_until > now()", c.inet) == "1"
		})
		wantFrom(t, 429, two.REST, c.address, "hvt_none", "/v1/secrets/lock/a")
		wantFrom(t, 200, two.REST, c.address, shared.AdminToken, "/v1/secrets/lock/a")
		wantFrom(t, 200, two.REST, c.address, "", "/v1/secrets/lock/a")
	}
	// Of the /64 each address is locked.
	wantFrom(t, 429, one.REST, "2001:db8::ffff:1", "hvt_none", "/v1/tokens")
	super := shared.Connect(t, shared.SuperDSN(0))
	if n := cluster.Text(t, super, "SELECT count(*)::text FROM vault.auth_lockouts WHERE client_ip <<= ANY ('{198.51.100.0/29, 198.51.100.8, 2001:db8::/32}'::inet[])"); n != "2" {
		t.Errorf("%s rows for two locks", n)
	}
	// The audit has each of them: three that were wrong, then what was locked, at both nodes.
	cluster.Eventually(t, "the records of those log-ins", func() bool {
		return cluster.Text(t, super, `SELECT coalesce(string_agg(outcome || ' ' || n, ', ' ORDER BY outcome), '') FROM (SELECT outcome, count(*) AS n FROM vault.audit_log
			WHERE action = 'login' AND face = 'rest' AND client_ip = '198.51.100.7' AND actor IS NULL GROUP BY outcome) x`) == "denied 3, locked_out 4"
	})
}

// TestLockoutAtOnce: hundreds at once from one address are locked after as many as
// ever; and a valid token gets through them.
func TestLockoutAtOnce(t *testing.T) {
	node := shared.Nodes[0].StartLoose(t, fronted)
	var mu sync.Mutex
	got := map[int]int{}
	var wg sync.WaitGroup
	ask := func(token string) int {
		return call(t, node.REST, token, "GET", "/v1/tokens", "", "X-Forwarded-For", "198.51.100.20").status
	}
	for range 16 {
		wg.Go(func() {
			for i := range 20 {
				s := ask(fmt.Sprintf("hvt_guess%d", i))
				mu.Lock()
				got[s]++
				mu.Unlock()
			}
		})
	}
	for range 10 {
		if s := ask(shared.AdminToken); s != 200 {
			t.Errorf("a valid token: %d", s)
		}
	}
	if wg.Wait(); got[401] != 3 || got[429] != 317 {
		t.Errorf("got %v", got)
	}
}

// TestLockoutWithoutPrimary: a lost primary neither keeps an unknown token waiting
// nor lets it try for longer.
func TestLockoutWithoutPrimary(t *testing.T) {
	t.Parallel() // it mostly waits
	env := maps.Clone(fronted)
	env["VAULT_PRIMARY_WAIT"] = "5m" // longer than any client waits
	c := cluster.Start(t, cluster.Spec{Standbys: 1, NodeEnv: env})
	if err := c.Nodes[0].KillServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 40 { // more than wait to be told
		address := fmt.Sprintf("198.51.100.%d", i)
		for range 3 {
			wantFrom(t, 401, c.Nodes[1].REST, address, "hvt_none", "/v1/tokens")
		}
		wantFrom(t, 429, c.Nodes[1].REST, address, "hvt_none", "/v1/tokens")
	}
	if n := c.Nodes[1].Metric(t, "hyperion_vault_lockouts_total"); n != 40 {
		t.Errorf("the metric says %v", n)
	}
	// Each attempt to tell takes seconds; had anybody waited, all 40 would be over.
	if log, err := os.ReadFile(c.Nodes[1].Log); err != nil || strings.Count(string(log), "other nodes were not told") > 20 {
		t.Errorf("%v, or answers waited for the primary", err)
	}
}

// TestTrustedProxy: whose word for the client's address counts.
func TestTrustedProxy(t *testing.T) {
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"front/a","kind":"manual","value":"x"}`)
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"front/b","kind":"manual","value":"x","allowed_cidrs":["198.51.100.64/26"]}`)
	node := shared.Nodes[0].StartLoose(t, fronted)
	const a, b = "/v1/secrets/front/a", "/v1/secrets/front/b"
	for address, status := range map[string]int{
		"198.51.100.7": 200, "192.0.2.7": 403, "198.51.100.7, 192.0.2.7": 403, "192.0.2.7, 198.51.100.7": 200, "192.0.2.7, 198.51.100.7, 127.0.0.1": 200,
		"127.0.0.1": 403, "": 403, "unknown": 403, "198.51.100.7, ": 403, "::ffff:198.51.100.7": 200, "[2001:db8::1]:443": 200,
	} {
		wantFrom(t, status, node.REST, address, "", a)
	}
	if got := wantAt(t, 403, node.REST, shared.AdminToken, "GET", "/v1/tokens", ""); got.field("code") != "denied" {
		t.Errorf("a proxy that does not say for whom: %s", got.text)
	}
	wantFrom(t, 200, node.REST, "198.51.100.65", "", b)
	wantFrom(t, 403, node.REST, "198.51.100.7", "", b)
	// Who is not trusted has no word.
	wantFrom(t, 403, shared.Nodes[0].REST, "198.51.100.65", "", b)
	bomb := strings.Repeat("127.0.0.1,", 1400)
	wantFrom(t, 403, node.REST, "198.51.100.7,"+bomb+"127.0.0.1", "", a)
}

// TestHAProxy: a real one adds the client's address behind what that has forged.
func TestHAProxy(t *testing.T) {
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"haproxy/a","kind":"manual","value":"x"}`)
	settings := map[string]string{"VAULT_TRUST_PROXY": "127.0.0.1", "VAULT_ALLOWED_IPS": "127.0.0.9"}
	node := shared.Nodes[0].StartLoose(t, settings)
	address := cluster.FreeAddress(t)
	config := filepath.Join(t.TempDir(), "haproxy.cfg")
	err := os.WriteFile(config, fmt.Appendf(nil, "defaults\n mode http\n option forwardfor\n timeout connect 5s\n timeout client 1m\n timeout server 1m\nfrontend f\n bind %s\n default_backend b\nbackend b\n server n %s\n",
		address, strings.TrimPrefix(node.REST, "http://")), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	haproxy := cluster.Command(t, nil, "haproxy", "-db", "-f", config)
	if err := haproxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = haproxy.Process.Kill()
		_ = haproxy.Wait() // it was killed
	})
	cluster.Eventually(t, "haproxy", func() bool { return cluster.Listens(t, address) })
	for source, status := range map[string]int{"127.0.0.9": 200, "127.0.0.8": 403, "127.0.0.1": 403} {
		for _, forged := range []string{"", "127.0.0.9"} {
			var headers []string
			if forged != "" {
				headers = []string{"X-Forwarded-For", forged}
			}
			a := send(t, clientFrom(source), "http://"+address, "", "GET", "/v1/secrets/haproxy/a", "", headers...)
			// The proxy's own host is trusted, and so is what it says before itself.
			if want := map[bool]int{true: 200, false: status}[source == "127.0.0.1" && forged != ""]; a.status != want {
				t.Errorf("from %s, forged %q: got %d %s, want %d", source, forged, a.status, a.text, want)
			}
		}
	}
}
