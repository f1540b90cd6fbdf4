// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package faults

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestVanished: clients whose machine is gone, which no packet tells, leave nothing behind,
// whatever they were at.
func TestVanished(t *testing.T) {
	cluster.NeedAlone(t)
	c := cluster.Start(t, cluster.Spec{NodeEnv: map[string]string{"VAULT_TCP_KEEPALIVE_SECS": "1", "VAULT_TCP_USER_TIMEOUT_SECS": "3"}})
	node, super := c.Nodes[0], c.Connect(t, c.SuperDSN(0))
	const lock = "SELECT pg_advisory_lock(4711)"
	silent, block, reader, runner := dial(t, c), dial(t, c), dial(t, c), dial(t, c)
	silent.Rows(t, "SELECT vault.list_secrets()")
	block.Rows(t, "BEGIN; "+lock+"; SELECT vault.put_secret('vanished/a', 'x')")
	if err := reader.Send(rawpg.Query("SELECT repeat('x', 1000) FROM generate_series(1, 1000000)")); err != nil {
		t.Fatal(err)
	}
	if err := runner.Send(rawpg.Query(lock)); err != nil {
		t.Fatal(err)
	}
	waiting := func(event string) func() bool {
		return func() bool {
			return cluster.Text(t, super, "SELECT count(*)::text FROM pg_stat_activity WHERE usename = $1 AND wait_event = $2", c.User, event) == "1"
		}
	}
	cluster.Eventually(t, "a result that nobody takes", waiting("ClientWrite"))
	cluster.Eventually(t, "a statement that waits", waiting("advisory"))
	half, err := net.Dial("tcp", node.Proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	if _, err := half.Write(rawpg.Startup(3<<16, "user", c.User, "database", c.Database)); err != nil {
		t.Fatal(err)
	}
	stays := c.Connect(t, c.DSN(0, c.User))

	for _, nc := range []net.Conn{silent.Net, block.Net, reader.Net, runner.Net, half} {
		if err := cluster.Vanish(t, nc); err != nil {
			t.Fatal(err)
		}
	}
	cluster.Eventually(t, "the end of all but one", func() bool {
		return node.Metric(t, "hyperion_vault_sessions") == 1 && node.Metric(t, "hyperion_vault_pending_connections") == 0 &&
			cluster.Text(t, super, "SELECT count(*)::text FROM pg_stat_activity WHERE usename = $1", c.User) == "1"
	})
	cluster.Exec(t, stays, lock)
	if got := cluster.Text(t, stays, "SELECT vault.put_secret('vanished/a', 'y')::text"); got != "1" {
		t.Errorf("version %s: what was not committed stands", got)
	}
	// They do not know it.
	if err := silent.Net.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := silent.ReadByte(); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a client that is gone heard %v", err)
	}
}

func dial(t *testing.T, c *cluster.Cluster) *rawpg.Conn {
	t.Helper()
	conn, err := rawpg.Dial(t.Context(), c.DSN(0, c.User))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
