// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package hostile

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

var shared *cluster.Cluster

func TestMain(m *testing.M) {
	cluster.Main(m, cluster.Spec{
		Listen:   "0.0.0.0", // with a certificate, and TLS not required
		Settings: map[string]string{"max_connections": "100", "shared_preload_libraries": "hyperion_vault"},
		NodeEnv:  map[string]string{"VAULT_MAX_HELD_BYTES": "67108864"},
	}, &shared)
}

func target(t *testing.T) Target {
	t.Helper()
	target, err := NewTarget(shared.Nodes[0].Proxy, shared.DSN(0, shared.User), shared.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// set changes settings of the running node, given as name and value in turn,
// until the test ends.
func set(t *testing.T, pairs ...string) {
	t.Helper()
	n := shared.Nodes[0]
	before, err := os.ReadFile(n.Config)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(before)), "\n")
	for i := 0; i < len(pairs); i += 2 {
		kept := lines[:0]
		for _, line := range lines {
			if !strings.HasPrefix(line, pairs[i]+"=") {
				kept = append(kept, line)
			}
		}
		lines = append(kept, pairs[i]+"="+pairs[i+1])
	}
	n.Reread(t, strings.Join(lines, "\n")+"\n")
	t.Cleanup(func() { n.Reread(t, string(before)) })
}

// refused is the server's or node's refusal; nil: none.
func refused(t *testing.T, err error) *pgconn.PgError {
	t.Helper()
	var pe *pgconn.PgError
	if err != nil && !errors.As(err, &pe) {
		t.Fatalf("neither answered nor refused: %v", err)
	}
	return pe
}

// quiet waits until no client is left, on the node and on its server.
func quiet(t *testing.T) {
	t.Helper()
	n := shared.Nodes[0]
	cluster.Eventually(t, "the node to have no client", func() bool {
		return n.Metric(t, "hyperion_vault_sessions") == 0 && n.Metric(t, "hyperion_vault_pending_connections") == 0
	})
	admin := shared.Connect(t, shared.SuperDSN(0))
	cluster.Eventually(t, "the server to have no client", func() bool {
		return cluster.Text(t, admin, "SELECT count(*)::text FROM pg_stat_activity WHERE usename = $1", shared.User) == "0"
	})
}

// reached waits long: the machine may be slow, the attackers are on it too.
func reached(t *testing.T, what string, ok func() bool) {
	t.Helper()
	patience := time.NewTimer(2 * time.Minute)
	defer patience.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-patience.C:
			t.Fatalf("%s: no progress", what)
		}
	}
}
