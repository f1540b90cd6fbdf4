// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tls

import (
	"crypto/tls"
	"net"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestCancel sends a cancel request in clear, behind SSLRequest, and by direct
// TLS; the session itself is encrypted, which this client has to be. None is answered.
func TestCancel(t *testing.T) {
	rules(t, "host all all samehost scram-sha-256")
	node := secure(t, map[string]string{
		"VAULT_REQUIRE_TLS": "all", "VAULT_PROXY_LISTEN": net.JoinHostPort(otherAddress(t), freePort(t)), "VAULT_ALLOWED_IPS": "samehost,loopback",
	})
	if got := logIn(t, open(t, node.address), &rawpg.Scram{}); got != "28000" {
		t.Errorf("a log-in in clear: got %s, want 28000", got)
	}
	session, err := node.encrypt(t, node.config)
	if err != nil {
		t.Fatal(err)
	}
	if got := logIn(t, session, &rawpg.Scram{}); got != "in" {
		t.Fatal(got)
	}
	direct := node.config.Clone()
	direct.NextProtos = []string{"postgresql"}
	for name, dial := range map[string]func() *rawpg.Conn{
		"in clear": func() *rawpg.Conn { return open(t, node.address) },
		"behind SSLRequest": func() *rawpg.Conn {
			c, err := node.encrypt(t, node.config)
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
		"by direct TLS": func() *rawpg.Conn { return rawpg.Over(tls.Client(open(t, node.address).Net, direct)) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := session.Send(rawpg.Query("SELECT 'begun' UNION ALL SELECT pg_sleep(60)::text")); err != nil {
				t.Fatal(err)
			}
			waitForStatement(t, session.PID)
			c := dial()
			if err := c.Write(rawpg.CancelRequest(session.PID, session.Secret)); err != nil {
				t.Fatal(err)
			}
			if rest, err := c.ReadRest(); err != nil || len(rest) > 0 {
				t.Errorf("answered %q, %v", rest, err)
			}
			session.Expect(t, "T(?column?:25) D(begun) E(57014) Z(I)")
		})
	}
}

// waitForStatement returns when the backend runs something.
func waitForStatement(t *testing.T, pid uint32) {
	t.Helper()
	admin := shared.Connect(t, shared.SuperDSN(0))
	cluster.Eventually(t, "the statement", func() bool {
		return cluster.Text(t, admin, "SELECT coalesce(max(wait_event), '') FROM pg_stat_activity WHERE pid = $1", pid) == "PgSleep"
	})
}

// TestCancelOfAWalsender: of what a replication connection runs nothing is known, so that
// its cancel requests always go on.
func TestCancelOfAWalsender(t *testing.T) {
	user := shared.AddUser(t, "walker")
	cluster.Exec(t, shared.Connect(t, shared.SuperDSN(0)), "ALTER ROLE "+user+" REPLICATION")
	node := shared.Nodes[0]
	c := open(t, node.Proxy)
	if err := c.Write(rawpg.Startup(3<<16, "user", user, "database", shared.Database, "replication", "database")); err != nil {
		t.Fatal(err)
	}
	if got, err := c.LogIn(&rawpg.Scram{Password: "pw-" + user}); err != nil {
		t.Fatal(got, err)
	}
	if err := c.Send(rawpg.Query("SELECT 'begun' UNION ALL SELECT pg_sleep(60)::text")); err != nil {
		t.Fatal(err)
	}
	waitForStatement(t, c.PID)
	stop := open(t, node.Proxy)
	if err := stop.Write(rawpg.CancelRequest(c.PID, c.Secret)); err != nil {
		t.Fatal(err)
	}
	c.Expect(t, "T(?column?:25) D(begun) E(57014) Z(I)")
}
