// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tls

import (
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestMovesOverTLS: a session of a standby's node goes to the primary and comes
// back while both servers are spoken to by TLS only, and is cancelled at the
// primary.
func TestMovesOverTLS(t *testing.T) {
	own := newAuthority(t, "own")
	hosts := make([]string, len(shared.Nodes))
	for i, n := range shared.Nodes {
		serveTLS(t, i, own, tomorrow(), "")
		_, port, _ := strings.Cut(n.Postgres, ":")
		hosts[i] = "localhost:" + port
	}
	node := shared.Nodes[1].StartUnready(t, map[string]string{
		"VAULT_LOCAL_PG": hosts[1], "VAULT_PG_HOSTS": strings.Join(hosts, ","), "VAULT_MOVE_BACK_AFTER": "1ms",
		"VAULT_PG_SSLMODE": "verify-full", "VAULT_PG_SSLROOTCERT": own.File,
	})
	if got := verdict(t, node.Proxy); got != inTLS {
		t.Fatalf("the session: got %q, want %q", got, inTLS)
	}
	c := open(t, node.Proxy)
	if got := logIn(t, c, &rawpg.Scram{}); got != "in" {
		t.Fatal(got)
	}
	const here = "SELECT ssl, pg_is_in_recovery() AS s FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
	big := strings.Repeat("x", 100_000)
	for range 5 { // a leg that was parked is used again
		c.Ask(t, "C(BEGIN) Z(T)", rawpg.Query("BEGIN"))
		c.Ask(t, "T(ssl:16,s:16) D(t,f) C(SELECT_1) Z(T)", rawpg.Query(here))
		c.Ask(t, "T(v:25) D("+big+") C(SELECT_1) Z(T)", rawpg.Query("SELECT repeat('x', 100000) AS v"))
		c.Ask(t, "C(COMMIT) Z(I)", rawpg.Query("COMMIT"))
		cluster.Eventually(t, "the session to be home", func() bool { return c.Rows(t, here) == "D(t,t)" })
	}
	if err := c.Send(rawpg.Query("SELECT pg_advisory_lock(4711), pg_sleep(60)")); err != nil {
		t.Fatal(err)
	}
	admin := shared.Connect(t, shared.SuperDSN(0))
	cluster.Eventually(t, "the statement at the primary", func() bool {
		return cluster.Text(t, admin, "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%4711%'") == "1"
	})
	stop := open(t, node.Proxy)
	if err := stop.Write(rawpg.CancelRequest(c.PID, c.Secret)); err != nil {
		t.Fatal(err)
	}
	c.Expect(t, "T(pg_advisory_lock:2278,pg_sleep:2278) E(57014) Z(I)")
}
