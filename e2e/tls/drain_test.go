// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tls

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// asleep is a session over TLS with a block in a statement that does not end by itself.
func asleep(t *testing.T, node *secured) *rawpg.Conn {
	t.Helper()
	c, err := node.encrypt(t, node.config)
	if err != nil {
		t.Fatal(err)
	}
	if got := logIn(t, c, &rawpg.Scram{}); got != "in" {
		t.Fatal(got)
	}
	c.Rows(t, "BEGIN; SAVEPOINT s")
	sleep(t, c)
	return c
}

func sleep(t *testing.T, c *rawpg.Conn) {
	t.Helper()
	if err := c.Send(rawpg.Query("SELECT pg_sleep(600)")); err != nil {
		t.Fatal(err)
	}
	waitForStatement(t, c.PID)
}

// drain tells the node to end, and returns when it has begun to: a session that is idle
// has heard so.
func drain(t *testing.T, node *secured) {
	t.Helper()
	idle := open(t, node.address)
	if got := logIn(t, idle, &rawpg.Scram{}); got != "in" {
		t.Fatal(got)
	}
	if err := syscall.Kill(node.pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	idle.Expect(t, "E(57P01)")
}

// TestDrainTakesCancels: while sessions finish their transactions, a node that ends
// takes cancel requests, and tells all others at once to go elsewhere.
func TestDrainTakesCancels(t *testing.T) {
	node := secure(t, map[string]string{"VAULT_DRAIN_SECS": "600", "VAULT_HANDSHAKE_SECS": "600"})
	session, early := asleep(t, node), open(t, node.address)
	drain(t, node)
	encrypted := func() *rawpg.Conn {
		c, err := node.encrypt(t, node.config)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, c := range map[string]*rawpg.Conn{"from before": early, "in clear": open(t, node.address), "over TLS": encrypted()} {
		if err := c.Write(rawpg.Startup(3<<16, "user", shared.User)); err != nil {
			t.Fatal(err)
		}
		c.Expect(t, "E(57P03)") // before it is asked for its password
		if c.Err.Severity != "FATAL" || c.Err.Message != "this node is shutting down" {
			t.Errorf("a log-in %s: got %+v", name, c.Err)
		}
		if rest, err := c.ReadRest(); err != nil || len(rest) > 0 {
			t.Errorf("a log-in %s: then %q, %v; want the end", name, rest, err)
		}
	}
	goesOn(t, node.address, shared.Nodes[1].Proxy)

	silent := open(t, node.address)
	for name, c := range map[string]*rawpg.Conn{"in clear": open(t, node.address), "over TLS": encrypted()} {
		if err := c.Write(rawpg.CancelRequest(session.PID, session.Secret)); err != nil {
			t.Fatal(err)
		}
		if rest, err := c.ReadRest(); err != nil || len(rest) > 0 {
			t.Errorf("%s: answered %q, %v", name, rest, err)
		}
		session.Expect(t, "T(pg_sleep:2278) E(57014) Z(E)")
		session.Ask(t, "C(ROLLBACK) Z(T)", rawpg.Query("ROLLBACK TO s"))
		sleep(t, session)
	}
	if err := session.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	session.Expect(t, "T(pg_sleep:2278) E(57014) Z(E)")
	if err := session.Send(rawpg.Query("ROLLBACK")); err != nil {
		t.Fatal(err)
	}
	session.Expect(t, "C(ROLLBACK) Z(I) E(57P01)")
	if rest, err := silent.ReadRest(); err != nil || len(rest) > 0 {
		t.Errorf("who has said nothing got %q, %v; want the end", rest, err)
	}
	cluster.Eventually(t, "the node's end", func() bool { return !cluster.Listens(t, node.address) })
}

// goesOn checks that a client of libpq which knows of several hosts finds the second.
func goesOn(t *testing.T, first, second string) {
	t.Helper()
	_, one, _ := net.SplitHostPort(first)    // addresses that were dialled
	_, other, _ := net.SplitHostPort(second) // as above
	cmd := exec.CommandContext(t.Context(), "psql", "-X", "-At", "-c", "SELECT 'in'",
		"host=127.0.0.1,127.0.0.1 port="+one+","+other+" sslmode=disable user="+shared.User+" dbname="+shared.Database)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+shared.Password)
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "in" {
		t.Errorf("libpq with two hosts: %s, %v", out, err)
	}
}

// TestDrainIsOver: what runs longer than the node waits is cancelled, and its client
// is told.
func TestDrainIsOver(t *testing.T) {
	node := secure(t, map[string]string{"VAULT_DRAIN_SECS": "1"})
	session := asleep(t, node)
	drain(t, node)
	session.Expect(t, "E(57P01)")
	if rest, err := session.ReadRest(); err != nil || len(rest) > 0 {
		t.Errorf("then %q, %v; want the end", rest, err)
	}
	admin := shared.Connect(t, shared.SuperDSN(0))
	cluster.Eventually(t, "the statement's end", func() bool {
		return cluster.Text(t, admin, "SELECT count(*)::text FROM pg_stat_activity WHERE pid = $1", session.PID) == "0"
	})
	cluster.Eventually(t, "the node's end", func() bool { return !cluster.Listens(t, node.address) })
}
