// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package routing

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// bound is VAULT_MAX_STALENESS: long enough that a machine which stands still for
// a moment does not look like a standby that does.
const bound = 4 * time.Second

const readStale = "SELECT vault.read_secret('stale/a') AS s"

// readSecret is the secret's value, or the SQLSTATE of the refusal.
func readSecret(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	var value string
	err := conn.QueryRow(t.Context(), readStale).Scan(&value)
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// opens reads until the value comes.
func opens(t *testing.T, conn *pgx.Conn, want string) {
	t.Helper()
	cluster.Eventually(t, "the value "+want, func() bool { return readSecret(t, conn) == want })
}

// closes reads until that is refused.
func closes(t *testing.T, conn *pgx.Conn) { t.Helper(); opens(t, conn, "55000") }

// fresh reads for a while, in which nothing may be refused.
func fresh(t *testing.T, want string, conns ...*pgx.Conn) {
	t.Helper()
	for start := time.Now(); time.Since(start) < 3*time.Second; {
		for _, conn := range conns {
			if got := readSecret(t, conn); got != want {
				t.Fatalf("got %s after %v, want %s", got, time.Since(start), want)
			}
		}
	}
}

func put(t *testing.T, conn *pgx.Conn, value string) {
	t.Helper()
	cluster.Exec(t, conn, "SELECT vault.put_secret('stale/a', $1)", value)
}

// TestMaxStaleness: past VAULT_MAX_STALENESS the node beside a standby opens
// nothing of it, and all else goes on.
func TestMaxStaleness(t *testing.T) {
	c := cluster.Start(t, cluster.Spec{
		Standbys: 1, Settings: map[string]string{"log_statement": "all"}, NodeEnv: map[string]string{"VAULT_MAX_STALENESS": bound.String()},
	})
	super, replay := c.Connect(t, c.SuperDSN(0)), c.Connect(t, c.SuperDSN(1))
	primary, near := c.Connect(t, c.DSN(0, c.User)), c.Connect(t, c.DSN(1, c.User))
	loose := c.Nodes[1].StartLoose(t, map[string]string{"VAULT_PG_HOSTS": c.Nodes[0].Postgres})
	alone := c.Connect(t, c.AddressDSN(loose.Proxy, c.User))
	put(t, primary, "one")
	c.WaitReplayed(t, 1)

	// An idle primary makes nothing stale, even where it begins a new segment.
	cluster.Exec(t, super, "SELECT pg_switch_wal()")
	opens(t, near, "one")
	fresh(t, "one", near, alone)

	cluster.Exec(t, replay, "SELECT pg_wal_replay_pause()")
	put(t, primary, "two")
	closes(t, near)
	closes(t, alone)
	refusedHow(t, c)
	if written(t, c) == 0 {
		t.Error("nobody has asked the primary for its position")
	}
	if got := readSecret(t, primary); got != "two" {
		t.Errorf("at the primary: %s", got)
	}
	moved := c.Connect(t, c.DSN(1, c.User))
	put(t, moved, "three") // behind that the session stays at the primary, for the standby is behind
	fresh(t, "three", moved)
	cluster.Exec(t, replay, "SELECT pg_wal_replay_resume()")
	opens(t, near, "three")
	opens(t, alone, "three")
	if got := c.Nodes[1].Metric(t, "hyperion_vault_staleness_seconds"); got > bound.Seconds() {
		t.Errorf("the metric says %v s", got)
	}

	// Without a primary nobody knows how old what the standby shows is getting.
	if err := c.Nodes[0].StopServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	closes(t, near)
	closes(t, alone)
	if got := cluster.Text(t, near, "SELECT pg_is_in_recovery()::text"); got != "true" {
		t.Errorf("got %s", got)
	}
	if err := c.Nodes[0].StartServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	opens(t, near, "three")
	opens(t, alone, "three")
}

// refusedHow: one error in place of the rows, in each protocol; and who asks the
// node hears how old it is.
func refusedHow(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	s := dial(t, c.DSN(1, c.User))
	s.Ask(t, "T(s:25) E(55000) Z(I)", rawpg.Query(readStale))
	for _, want := range []string{"VAULT_MAX_STALENESS is " + bound.String(), " s old"} {
		if !strings.Contains(s.Err.Detail, want) {
			t.Errorf("the detail does not say %q: %s", want, s.Err.Detail)
		}
	}
	if !strings.Contains(s.Err.Message, `the standby beside node "`) {
		t.Errorf("the message: %s", s.Err.Message)
	}
	s.Ask(t, "1 2 E(55000) Z(I)", rawpg.Parse("", readStale), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync())
	s.Ask(t, "E(55000) Z(I)", rawpg.Query("SELECT vault.verify_secret('stale/a', 'one')"))
	where(t, s, false)
	if got := c.Nodes[1].Metric(t, "hyperion_vault_staleness_seconds"); got <= bound.Seconds() {
		t.Errorf("the metric says %v s", got)
	}
	if got := c.Nodes[0].Metric(t, "hyperion_vault_staleness_seconds"); got != 0 {
		t.Errorf("the primary's metric says %v s", got)
	}
	cluster.Eventually(t, "a word of it in the node's log", func() bool {
		log, err := os.ReadFile(c.Nodes[1].Log)
		return err == nil && strings.Contains(string(log), "secrets are not opened")
	})
	if out, code := c.Nodes[1].Status(t); code != 1 || !strings.Contains(out, "what the server shows is ") {
		t.Errorf("status does not say how old it is:\n%s", out)
	}
}

// TestNoMaxStaleness: without a bound nothing is refused, and nobody is asked.
func TestNoMaxStaleness(t *testing.T) {
	replay := shared.Connect(t, shared.SuperDSN(1))
	primary, near := shared.Connect(t, shared.DSN(0, shared.User)), shared.Connect(t, shared.DSN(1, shared.User))
	put(t, primary, "one")
	shared.WaitReplayed(t, 1)
	cluster.Exec(t, replay, "SELECT pg_wal_replay_pause()")
	defer cluster.Exec(t, replay, "SELECT pg_wal_replay_resume()")
	put(t, primary, "two")
	before := written(t, shared)
	fresh(t, "one", near)
	if times := written(t, shared) - before; times != 0 {
		t.Errorf("the primary was asked %d times for its position", times)
	}
}

// written is how often nodes have asked the primary what it has written.
func written(t *testing.T, c *cluster.Cluster) int {
	t.Helper()
	return strings.Count(c.ServerLog(t, 0), "CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_insert_lsn() END")
}
