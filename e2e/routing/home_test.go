// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package routing

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// atHome asks until the session is at its standby again.
func atHome(t *testing.T, c *rawpg.Conn) {
	t.Helper()
	cluster.Eventually(t, "the session at its standby", func() bool {
		return c.Rows(t, "SELECT pg_is_in_recovery()") == "D(t)"
	})
}

// stays asks for as long as a session would take to go back many times over.
func stays(t *testing.T, c *rawpg.Conn) {
	t.Helper()
	for range 20 {
		if got := c.Rows(t, "SELECT pg_is_in_recovery()"); got != "D(f)" {
			t.Fatalf("the session went back: %s", got)
		}
		time.Sleep(2 * time.Millisecond) //nolint:forbidigo // longer than VAULT_MOVE_BACK_AFTER; what is waited for must not come
	}
}

// TestHome takes sessions back to their standby once they write no more.
func TestHome(t *testing.T) {
	schema(t)
	super := shared.Connect(t, shared.SuperDSN(0))
	node := shared.Nodes[1].StartLoose(t, map[string]string{"VAULT_MOVE_BACK_AFTER": "1ms"})
	openAs := func(t *testing.T, user string) *rawpg.Conn {
		t.Helper()
		return dial(t, shared.AddressDSN(node.Proxy, user))
	}
	open := func(t *testing.T) *rawpg.Conn { t.Helper(); return openAs(t, shared.User) }
	insert := func(t *testing.T, s *rawpg.Conn) {
		t.Helper()
		s.Ask(t, "C(INSERT_0_1) Z(I)", rawpg.Query("INSERT INTO r.t (v) VALUES ('x')"))
	}
	t.Run("state", func(t *testing.T) { homeState(t, open(t), insert) })
	t.Run("immovable", func(t *testing.T) { homeImmovable(t, open(t)) })
	t.Run("reading", func(t *testing.T) { homeReading(t, open(t), insert) })
	t.Run("serializable", func(t *testing.T) { homeSerializable(t, open(t), insert) })
	t.Run("serializable role", func(t *testing.T) { homeSerializableRole(t, openAs, super) })
	t.Run("extended", func(t *testing.T) { homeExtended(t, open(t)) })
	t.Run("spare", func(t *testing.T) { homeSpare(t, open(t), super, insert) })
	t.Run("discard", func(t *testing.T) { homeDiscard(t, open(t), insert) })
	t.Run("behind", func(t *testing.T) { homeBehind(t, open(t), open(t), insert) })
}

// What was set at either server is the session's at both.
func homeState(t *testing.T, s *rawpg.Conn, insert func(*testing.T, *rawpg.Conn)) {
	t.Helper()
	s.Rows(t, "SET app.tenant = 'a'")
	s.Rows(t, "SET app.gone = 'g'")
	s.Rows(t, "PREPARE here AS SELECT current_setting('app.tenant') AS n")
	insert(t, s)
	s.Rows(t, "SET app.tenant = 'b'")
	s.Rows(t, "SET app.other = 'o'")
	s.Rows(t, "RESET app.gone")
	s.Rows(t, "PREPARE there AS SELECT current_setting('app.other') AS n")
	atHome(t, s)
	for sql, want := range map[string]string{"EXECUTE here": "D(b)", "EXECUTE there": "D(o)", "SHOW app.tenant": "D(b)", "SHOW app.gone": "D"} {
		if got := s.Rows(t, sql); got != want {
			t.Errorf("%s: %s, want %s", sql, got, want)
		}
	}
	s.Rows(t, "SET app.tenant = 'c'")
	s.Rows(t, "DEALLOCATE there")
	before := s.Rows(t, everything)
	insert(t, s)
	if after := s.Rows(t, everything); after != before {
		t.Errorf("at the primary: %s\nwas: %s", after, before)
	}
	if got := s.Rows(t, "SELECT count(*) > 1 FROM r.t"); got != "D(t)" {
		t.Errorf("its own rows: %s", got)
	}
	if got := s.Rows(t, "SELECT currval('r.t_id_seq') = (SELECT max(id) FROM r.t)"); got != "D(t)" {
		t.Errorf("currval: %s", got)
	}
	atHome(t, s)
	if got := s.Rows(t, "SELECT currval('r.t_id_seq') > 0"); got != "D(t)" { // kept by the connection that was left
		t.Errorf("currval after a while: %s", got)
	}
}

// What only the primary has keeps the session there.
func homeImmovable(t *testing.T, s *rawpg.Conn) {
	t.Helper()
	for hold, release := range map[string]string{
		"CREATE TEMP TABLE tmp AS SELECT 1 AS n": "DROP TABLE tmp", "LISTEN c": "UNLISTEN c",
		"SELECT pg_advisory_lock(1)": "SELECT pg_advisory_unlock(1)",
	} {
		s.Rows(t, hold)
		stays(t, s)
		s.Rows(t, release)
		atHome(t, s)
	}
	s.Rows(t, "BEGIN")
	stays(t, s)
	s.Rows(t, "COMMIT")
	atHome(t, s)
}

// Who reads in blocks goes back with one that is READ ONLY.
func homeReading(t *testing.T, s *rawpg.Conn, insert func(*testing.T, *rawpg.Conn)) {
	t.Helper()
	begin := map[string]func(){
		"Query": func() { s.Rows(t, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY") },
		"Parse": func() {
			s.Ask(t, "1 2 C(BEGIN) Z(T)", rawpg.Parse("", "BEGIN READ ONLY"), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync())
		},
	}
	for how, begin := range begin {
		insert(t, s)
		cluster.Eventually(t, "the session at its standby, by "+how, func() bool {
			begin()
			home := s.Rows(t, "SELECT pg_is_in_recovery()") == "D(t)"
			s.Rows(t, "COMMIT")
			return home
		})
	}
}

// A session whose transactions are serializable is at the primary.
func homeSerializable(t *testing.T, s *rawpg.Conn, insert func(*testing.T, *rawpg.Conn)) {
	t.Helper()
	for _, first := range []func(){
		func() { s.Rows(t, "SELECT 1") },
		func() {
			s.Ask(t, "1 2 T(n:23) D(1) C(SELECT_1) Z(I)", rawpg.Parse("", "SELECT 1 AS n"), rawpg.Bind("", ""), rawpg.DescribePortal(""), rawpg.Execute("", 0), rawpg.Sync())
		},
		func() { insert(t, s) },
		func() {
			s.Rows(t, "BEGIN")
			s.Rows(t, "INSERT INTO r.t (v) VALUES ('x')")
			s.Rows(t, "COMMIT")
		},
	} {
		s.Rows(t, "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE")
		first()
		stays(t, s)
		s.Rows(t, "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED")
		atHome(t, s)
	}
}

// So is one whose role says it, from its first statement on.
func homeSerializableRole(t *testing.T, openAs func(*testing.T, string) *rawpg.Conn, super *pgx.Conn) {
	t.Helper()
	role := shared.AddUser(t, "serializable")
	cluster.Exec(t, super, "ALTER ROLE "+role+" SET default_transaction_isolation = 'serializable'")
	shared.WaitReplayed(t, 1)
	s := openAs(t, role)
	stays(t, s)
	if got := s.Rows(t, "SHOW transaction_isolation"); got != "D(serializable)" {
		t.Errorf("the isolation: %s", got)
	}
}

// Statements prepared at one server run at the other.
func homeExtended(t *testing.T, s *rawpg.Conn) {
	t.Helper()
	s.Ask(t, "1 1 1 Z(I)", rawpg.Parse("w", "INSERT INTO r.t (v) VALUES ($1)"), rawpg.Parse("r", "SELECT pg_is_in_recovery() AS s"),
		rawpg.Parse("", "SELECT $1::text AS v"), rawpg.Sync())
	for range 3 {
		s.Ask(t, "2 C(INSERT_0_1) Z(I)", rawpg.Bind("", "w", "w"), rawpg.Execute("", 0), rawpg.Sync())
		s.Ask(t, "2 D(u) C(SELECT_1) Z(I)", rawpg.Bind("", "", "u"), rawpg.Execute("", 0), rawpg.Sync())
		cluster.Eventually(t, "the session at its standby", func() bool {
			if err := s.Send(rawpg.Bind("", "r"), rawpg.Execute("", 0), rawpg.Sync()); err != nil {
				t.Fatal(err)
			}
			return slices.Contains(s.Answers(t), "D(t)")
		})
		s.Ask(t, "2 D(u) C(SELECT_1) Z(I)", rawpg.Bind("", "", "u"), rawpg.Execute("", 0), rawpg.Sync())
		s.Ask(t, "1 Z(I)", rawpg.Parse("a", "SELECT vault.put_secret($1, $2) AS v"), rawpg.Sync())
		s.Ask(t, "2 D(1) C(SELECT_1) Z(I)", rawpg.Bind("", "a", "home/"+time.Now().Format("150405.000000000"), "home canary"), rawpg.Execute("", 0), rawpg.Sync())
		s.Ask(t, "3 Z(I)", rawpg.CloseStatement("a"), rawpg.Sync())
	}
}

// The loss of the connection that was left is never seen.
func homeSpare(t *testing.T, s *rawpg.Conn, super *pgx.Conn, insert func(*testing.T, *rawpg.Conn)) {
	t.Helper()
	s.Rows(t, "SET application_name = 'spare'")
	for range 3 {
		insert(t, s)
		atHome(t, s)
		const left = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'spare'"
		cluster.Exec(t, super, left)
		cluster.Eventually(t, "the end of the connection that was left", func() bool {
			return cluster.Text(t, super, "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'spare'") == "0"
		})
		if got := s.Rows(t, "SELECT 1"); got != "D(1)" {
			t.Errorf("got %s", got)
		}
	}
}

// What its sequences have given is gone with DISCARD, also when that runs at the
// standby.
func homeDiscard(t *testing.T, s *rawpg.Conn, insert func(*testing.T, *rawpg.Conn)) {
	t.Helper()
	for _, what := range []string{"ALL", "SEQUENCES"} {
		insert(t, s)
		atHome(t, s)
		s.Rows(t, "DISCARD "+what)
		where(t, s, false) // it ran there
		s.Ask(t, "T(lastval:20) E(55000) Z(I)", rawpg.Query("SELECT lastval()"))
		s.Ask(t, "T(currval:20) E(55000) Z(I)", rawpg.Query("SELECT currval('r.t_id_seq')"))
	}
}

// A session reads its own writes while the standby is behind.
func homeBehind(t *testing.T, s, other *rawpg.Conn, insert func(*testing.T, *rawpg.Conn)) {
	t.Helper()
	standby := shared.Connect(t, shared.SuperDSN(1))
	cluster.Exec(t, standby, "SELECT pg_wal_replay_pause()")
	defer cluster.Exec(t, standby, "SELECT pg_wal_replay_resume()") // also of a test that fails
	before := other.Rows(t, "SELECT count(*) FROM r.t")
	insert(t, s)
	for range 20 {
		if got := s.Rows(t, "SELECT count(*) FROM r.t"); got == before {
			t.Fatal("the session does not see its own row")
		}
		time.Sleep(2 * time.Millisecond) //nolint:forbidigo // as in stays
	}
	stays(t, s)
	if got := other.Rows(t, "SELECT count(*) FROM r.t"); got != before {
		t.Errorf("a session that wrote nothing reads %s, not at its standby", strings.TrimSpace(got))
	}
	cluster.Exec(t, standby, "SELECT pg_wal_replay_resume()")
	atHome(t, s)
	if got := s.Rows(t, "SELECT count(*) FROM r.t"); got == before {
		t.Error("the session went back in time")
	}
}
