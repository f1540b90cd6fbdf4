// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rotation

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestStandIn: where the extension is not preloaded the node stands in for the
// worker; where it is older than rotation the node says so once and waits.
func TestStandIn(t *testing.T) {
	t.Parallel() // it mostly waits
	c := cluster.Start(t, cluster.Spec{
		Settings: map[string]string{"shared_preload_libraries": "", "hyperion_vault.scan_interval_secs": "1"},
		NodeEnv:  map[string]string{"VAULT_ROTATION_POLL_SECS": "1"},
	})
	node, super := c.Nodes[0], c.Connect(t, c.SuperDSN(0))
	if got := cluster.Text(t, super, "SELECT vault.status() ->> 'preloaded'"); got != "false" {
		t.Fatalf("preloaded: got %s", got)
	}
	conn := c.Connect(t, c.DSN(0, c.User))
	const create = "SELECT vault.create_secret('auto', 'automatic', rotation_interval => '1 second')::text"
	rotated := func(version string) func() bool {
		return func() bool {
			return cluster.Text(t, super, "SELECT (current_version >= $1::int)::text FROM vault.secrets WHERE name = 'auto'", version) == "true"
		}
	}
	cluster.Text(t, conn, create)
	cluster.Eventually(t, "rotations", rotated("3"))
	cluster.Eventually(t, "the node to count what it did", func() bool {
		return node.Metric(t, "hyperion_vault_ticks_total") >= 2 && node.Metric(t, "hyperion_vault_rotations_total", `outcome="ok"`) >= 2
	})
	// Any role may wake the node: that is no reason to stand in no more.
	flooding, stop := context.WithCancel(t.Context())
	flood, flooded := c.Connect(t, c.DSN(0, c.User)), make(chan struct{})
	go func() {
		defer close(flooded)
		for flooding.Err() == nil {
			_, _ = flood.Exec(flooding, "NOTIFY vault_rotation", pgx.QueryExecModeSimpleProtocol) // stopped in the middle
		}
	}()
	before := node.Metric(t, "hyperion_vault_ticks_total")
	cluster.Eventually(t, "ticks beside notifications", func() bool { return node.Metric(t, "hyperion_vault_ticks_total") >= before+2 })
	stop()
	<-flooded
	queued(t, super)

	id := cluster.Text(t, super, "SELECT vault_id::text FROM vault.meta")
	// At once, so that the node never sees a database without the extension.
	older := strings.Join([]string{
		"DROP EXTENSION hyperion_vault", "CREATE EXTENSION hyperion_vault VERSION '1.3'",
		"INSERT INTO vault.meta (vault_id) VALUES ('" + id + "')", "SELECT vault.grant_service_role('vault_service')",
		"SELECT vault.grant_access('" + c.User + "', '*', '*')",
	}, ";")
	if _, err := super.Exec(t.Context(), older, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	said := func() int {
		log, err := os.ReadFile(node.Log)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(log), "function vault.claim_rotation(unknown, unknown) does not exist")
	}
	cluster.Eventually(t, "the node to say that it cannot", func() bool {
		return said() > 0 && node.Metric(t, "hyperion_vault_part_usable", `part="rotation"`) == 0
	})
	cluster.Text(t, c.Connect(t, c.DSN(0, c.User)), create)
	const failures = "SELECT xact_rollback::text FROM pg_stat_database WHERE datname = current_database()"
	for range 2 {
		before := cluster.Text(t, super, failures)
		cluster.Eventually(t, "the node to try again", func() bool { return cluster.Text(t, super, failures) != before })
	}
	if got, _ := node.Status(t); !strings.Contains(got, "rotation") {
		t.Errorf("status: %s", got)
	}
	cluster.Exec(t, super, "ALTER EXTENSION hyperion_vault UPDATE")
	cluster.Eventually(t, "rotations with an extension of today", rotated("3"))
	cluster.Eventually(t, "the node to say so", func() bool { return node.Metric(t, "hyperion_vault_part_usable", `part="rotation"`) == 1 })
	if n := said(); n != 1 {
		t.Errorf("the log says %d times that the extension is too old", n)
	}
	told(t, c, super)
}

// queued: what is in the queue is done also while housekeeping fails.
func queued(t *testing.T, super *pgx.Conn) {
	t.Helper()
	cluster.Exec(t, super, "REVOKE EXECUTE ON FUNCTION vault.tick() FROM vault_service")
	const failures = "SELECT xact_rollback::text FROM pg_stat_database WHERE datname = current_database()"
	before := cluster.Text(t, super, failures)
	cluster.Eventually(t, "a tick to fail", func() bool { return cluster.Text(t, super, failures) != before })
	cluster.Exec(t, super, "UPDATE vault.secrets SET next_rotation_at = now() - interval '1 minute', rotation_interval = '1 hour' WHERE name = 'auto'")
	version := cluster.Text(t, super, "SELECT (current_version + 1)::text FROM vault.secrets WHERE name = 'auto'")
	cluster.Exec(t, super, "INSERT INTO vault.rotation_jobs (secret_id) SELECT id FROM vault.secrets WHERE name = 'auto' ON CONFLICT DO NOTHING")
	cluster.Eventually(t, "a rotation without a tick", func() bool {
		return cluster.Text(t, super, "SELECT (current_version >= $1::int)::text FROM vault.secrets WHERE name = 'auto'", version) == "true"
	})
}

// told: a node that looks every hour rotates as soon as a tick has queued something,
// and again each time.
func told(t *testing.T, c *cluster.Cluster, super *pgx.Conn) {
	t.Helper()
	if err := c.Nodes[0].StopNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	node := c.Nodes[0].StartLoose(t, map[string]string{"VAULT_ROTATION_POLL_SECS": "3600"})
	conn := c.Connect(t, c.AddressDSN(node.Proxy, c.User))
	cluster.Text(t, conn, "SELECT vault.create_secret('told', 'automatic', rotation_interval => '1 day')::text")
	// It looks once when it starts and once when it listens: no more than two of these
	// could be found so.
	for version := 2; version < 6; version++ {
		cluster.Exec(t, super, "UPDATE vault.secrets SET next_rotation_at = now() WHERE name = 'told'")
		cluster.Exec(t, super, "SELECT vault.tick()")
		cluster.Eventually(t, "a rotation that a tick has told of", func() bool {
			return cluster.Text(t, super, "SELECT current_version::text FROM vault.secrets WHERE name = 'told'") == strconv.Itoa(version)
		})
	}
}
