// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// saidLast is what the server said of its own accord, all of it, with which the
// session ended.
func saidLast(t *testing.T, c *rawpg.Conn) (said []string) {
	t.Helper()
	for {
		m, err := c.Receive()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
			return said
		case err != nil:
			t.Fatalf("%q, then %v; want the end", said, err)
		}
		said = append(said, fmt.Sprintf("%c%q", m.Type, m.Body))
	}
}

// alike checks that a session through the node and one with the server itself were
// told the same, with that SQLSTATE.
func alike(t *testing.T, code string, through, direct []string) {
	t.Helper()
	if got, want := fmt.Sprint(through), fmt.Sprint(direct); got != want {
		t.Errorf("%s: got %s\nwant %s", code, got, want)
	}
	if len(direct) != 1 || !strings.Contains(direct[0], `\x00C`+code+`\x00`) {
		t.Errorf("the server itself said %s, want one %s", direct, code)
	}
}

func readsStill(t *testing.T, c *rawpg.Conn, name string) {
	t.Helper()
	c.Ask(t, "T(pw:25) D(s3cr3t) C(SELECT_1) Z(I)", rawpg.Query("SELECT vault.read_secret('"+name+"') AS pw"))
}

// TestServersFatals: what the server says when it ends a session by itself reaches
// the client as it is, and nobody else.
func TestServersFatals(t *testing.T) {
	put(t, "fatal/a", "s3cr3t")
	other := raw(t)
	for code, begin := range map[string]string{
		"25P03": "SET idle_in_transaction_session_timeout = '200ms'; BEGIN", "57P05": "SET idle_session_timeout = '200ms'",
	} {
		through, direct := raw(t), dial(t, shared.DirectDSN(0, shared.User))
		readsStill(t, through, "fatal/a")
		through.Rows(t, begin)
		direct.Rows(t, begin)
		alike(t, code, saidLast(t, through), saidLast(t, direct))
		readsStill(t, other, "fatal/a")
	}
	through, direct := raw(t), dial(t, shared.DirectDSN(0, shared.User))
	readsStill(t, through, "fatal/a")
	for _, s := range []*rawpg.Conn{through, direct} {
		cluster.Exec(t, super(t), "SELECT pg_terminate_backend($1)", s.PID)
	}
	alike(t, "57P01", saidLast(t, through), saidLast(t, direct))
	readsStill(t, other, "fatal/a")
}

// conflicts has a standby's replay cancel a statement that reads a secret, and end
// sessions: one in a transaction, one whose database is dropped.
func conflicts(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	super, standby := c.Connect(t, c.SuperDSN(0)), c.Connect(t, c.SuperDSN(1))
	pair := func(option string) [2]*rawpg.Conn {
		return [2]*rawpg.Conn{dial(t, c.DSN(1, c.User)+option), dial(t, c.DirectDSN(1, c.User)+option)}
	}
	other := dial(t, c.DSN(1, c.User))

	const slow = "SELECT vault.read_secret('standby/a') AS pw, pg_sleep(600 * n) AS s FROM generate_series(0, 1) n"
	read := pair("")
	for _, s := range read {
		s.Rows(t, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
		if err := s.Send(rawpg.Query(slow)); err != nil {
			t.Fatal(err)
		}
	}
	cluster.Eventually(t, "both statements", func() bool {
		return cluster.Text(t, standby, "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%standby/a%'") == "2"
	})
	cluster.Exec(t, super, "UPDATE vault.secrets SET description = 'x' WHERE name = 'standby/a'")
	cluster.Exec(t, super, "VACUUM vault.secrets")
	read[0].Expect(t, "T(pw:25,s:2278) D(s3cr3t,) E(40001) Z(E)")
	read[1].Answers(t)
	if !reflect.DeepEqual(read[0].Err, read[1].Err) {
		t.Errorf("got %+v\nwant %+v", read[0].Err, read[1].Err)
	}
	read[0].Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("ROLLBACK"))
	readsStill(t, read[0], "standby/a")

	cluster.Exec(t, super, "CREATE VIEW conflicting AS SELECT vault.read_secret('standby/a') AS pw")
	cluster.Exec(t, super, "GRANT SELECT ON conflicting TO PUBLIC")
	cluster.Exec(t, super, "CREATE DATABASE conflicting")
	c.WaitReplayed(t, 1)
	held, away := pair(""), pair(" dbname=conflicting")
	for _, s := range held {
		s.Rows(t, "BEGIN READ ONLY; TABLE conflicting")
	}
	cluster.Exec(t, super, "DROP VIEW conflicting")
	alike(t, "40001", saidLast(t, held[0]), saidLast(t, held[1]))
	cluster.Exec(t, super, "DROP DATABASE conflicting")
	alike(t, "57P04", saidLast(t, away[0]), saidLast(t, away[1]))
	readsStill(t, other, "standby/a")
}

// crashed has a backend of the standby's die: the server ends all sessions, and the
// node goes on.
func crashed(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	through, direct, victim := dial(t, c.DSN(1, c.User)), dial(t, c.DirectDSN(1, c.User)), dial(t, c.DirectDSN(1, c.User))
	readsStill(t, through, "standby/a")
	pid := c.Nodes[1].PID
	super := c.Connect(t, c.SuperDSN(1))
	cluster.Eventually(t, "backends that wait for their clients: one that still sends can say nothing more", func() bool {
		return cluster.Text(t, super, "SELECT count(*)::text FROM pg_stat_activity WHERE usename = $1 AND wait_event IS DISTINCT FROM 'ClientRead'", c.User) == "0"
	})
	if err := syscall.Kill(int(victim.PID), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	alike(t, "57P02", saidLast(t, through), saidLast(t, direct))
	var after *rawpg.Conn
	cluster.Eventually(t, "a session after the crash", func() (ok bool) {
		s, err := rawpg.Dial(t.Context(), c.DSN(1, c.User))
		after = s
		return err == nil
	})
	defer after.Close()
	readsStill(t, after, "standby/a")
	if c.Nodes[1].PID != pid || !c.Nodes[1].Alive() {
		t.Error("the node has died")
	}
}
