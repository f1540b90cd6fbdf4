// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package routing

import (
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
		return run(t, c, "SELECT pg_is_in_recovery()") == "D(t)"
	})
}

// stays asks for as long as a session would take to go back many times over.
func stays(t *testing.T, c *rawpg.Conn) {
	t.Helper()
	for range 20 {
		if got := run(t, c, "SELECT pg_is_in_recovery()"); got != "D(f)" {
			t.Fatalf("the session went back: %s", got)
		}
		time.Sleep(2 * time.Millisecond) //nolint:forbidigo // longer than VAULT_MOVE_BACK_AFTER; what is waited for must not come
	}
}

// TestHome takes sessions back to their standby once they write no more.
func TestHome(t *testing.T) {
	c := cluster.Start(t, cluster.Spec{Standbys: 1, NodeEnv: map[string]string{"VAULT_MOVE_BACK_AFTER": "1ms"}})
	super := c.Connect(t, c.SuperDSN(0))
	for _, sql := range []string{
		"CREATE TABLE public.t (id serial, v text)", "GRANT ALL ON public.t TO PUBLIC", "GRANT ALL ON SEQUENCE public.t_id_seq TO PUBLIC",
	} {
		cluster.Exec(t, super, sql)
	}
	c.WaitReplayed(t, 1)
	open := func(t *testing.T) *rawpg.Conn { t.Helper(); return dial(t, c.DSN(1, c.User)) }
	insert := func(t *testing.T, s *rawpg.Conn) {
		t.Helper()
		s.Ask(t, "C(INSERT_0_1) Z(I)", rawpg.Query("INSERT INTO public.t (v) VALUES ('x')"))
	}
	t.Run("state", func(t *testing.T) { homeState(t, open(t), insert) })
	t.Run("immovable", func(t *testing.T) { homeImmovable(t, open(t)) })
	t.Run("reading", func(t *testing.T) { homeReading(t, open(t), insert) })
	t.Run("serializable", func(t *testing.T) { homeSerializable(t, open(t), insert) })
	t.Run("serializable role", func(t *testing.T) { homeSerializableRole(t, c, super) })
	t.Run("extended", func(t *testing.T) { homeExtended(t, open(t)) })
	t.Run("spare", func(t *testing.T) { homeSpare(t, open(t), super, insert) })
	t.Run("behind", func(t *testing.T) { homeBehind(t, c, open(t), insert) })
	if got := c.Nodes[1].Metric(t, "hyperion_vault_moves_total", "to", "standby", "outcome", "ok"); got < 5 {
		t.Errorf("%v moves back counted", got)
	}
}

// What was set at either server is the session's at both.
func homeState(t *testing.T, s *rawpg.Conn, insert func(*testing.T, *rawpg.Conn)) {
	t.Helper()
	run(t, s, "SET app.tenant = 'a'")
	run(t, s, "SET app.gone = 'g'")
	run(t, s, "PREPARE here AS SELECT current_setting('app.tenant') AS n")
	insert(t, s)
	run(t, s, "SET app.tenant = 'b'")
	run(t, s, "SET app.other = 'o'")
	run(t, s, "RESET app.gone")
	run(t, s, "PREPARE there AS SELECT current_setting('app.other') AS n")
	atHome(t, s)
	for sql, want := range map[string]string{"EXECUTE here": "D(b)", "EXECUTE there": "D(o)", "SHOW app.tenant": "D(b)", "SHOW app.gone": "D"} {
		if got := run(t, s, sql); got != want {
			t.Errorf("%s: %s, want %s", sql, got, want)
		}
	}
	run(t, s, "SET app.tenant = 'c'")
	run(t, s, "DEALLOCATE there")
	before := run(t, s, everything)
	insert(t, s)
	if after := run(t, s, everything); after != before {
		t.Errorf("at the primary: %s\nwas: %s", after, before)
	}
	if got := run(t, s, "SELECT count(*) > 1 FROM public.t"); got != "D(t)" {
		t.Errorf("its own rows: %s", got)
	}
	if got := run(t, s, "SELECT currval('public.t_id_seq') = (SELECT max(id) FROM public.t)"); got != "D(t)" {
		t.Errorf("currval: %s", got)
	}
	atHome(t, s)
	if got := run(t, s, "SELECT currval('public.t_id_seq') > 0"); got != "D(t)" { // kept by the connection that was left
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
		run(t, s, hold)
		stays(t, s)
		run(t, s, release)
		atHome(t, s)
	}
	run(t, s, "BEGIN")
	stays(t, s)
	run(t, s, "COMMIT")
	atHome(t, s)
}

// Who reads in blocks goes back with one that is READ ONLY.
func homeReading(t *testing.T, s *rawpg.Conn, insert func(*testing.T, *rawpg.Conn)) {
	t.Helper()
	begin := map[string]func(){
		"Query": func() { run(t, s, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY") },
		"Parse": func() {
			s.Ask(t, "1 2 C(BEGIN) Z(T)", rawpg.Parse("", "BEGIN READ ONLY"), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync())
		},
	}
	for how, begin := range begin {
		insert(t, s)
		cluster.Eventually(t, "the session at its standby, by "+how, func() bool {
			begin()
			home := run(t, s, "SELECT pg_is_in_recovery()") == "D(t)"
			run(t, s, "COMMIT")
			return home
		})
	}
}

// A session whose transactions are serializable is at the primary.
func homeSerializable(t *testing.T, s *rawpg.Conn, insert func(*testing.T, *rawpg.Conn)) {
	t.Helper()
	for _, first := range []func(){
		func() { run(t, s, "SELECT 1") },
		func() {
			s.Ask(t, "1 2 T(n:23) D(1) C(SELECT_1) Z(I)", rawpg.Parse("", "SELECT 1 AS n"), rawpg.Bind("", ""), rawpg.DescribePortal(""), rawpg.Execute("", 0), rawpg.Sync())
		},
		func() { insert(t, s) },
		func() {
			run(t, s, "BEGIN")
			run(t, s, "INSERT INTO public.t (v) VALUES ('x')")
			run(t, s, "COMMIT")
		},
	} {
		run(t, s, "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE")
		first()
		stays(t, s)
		run(t, s, "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED")
		atHome(t, s)
	}
}

// So is one whose role says it, from its first statement on.
func homeSerializableRole(t *testing.T, c *cluster.Cluster, super *pgx.Conn) {
	t.Helper()
	role := c.AddUser(t, "serializable")
	cluster.Exec(t, super, "ALTER ROLE "+role+" SET default_transaction_isolation = 'serializable'")
	c.WaitReplayed(t, 1)
	s := dial(t, c.DSN(1, role))
	stays(t, s)
	if got := run(t, s, "SHOW transaction_isolation"); got != "D(serializable)" {
		t.Errorf("the isolation: %s", got)
	}
}

// Statements prepared at one server run at the other.
func homeExtended(t *testing.T, s *rawpg.Conn) {
	t.Helper()
	s.Ask(t, "1 1 1 Z(I)", rawpg.Parse("w", "INSERT INTO public.t (v) VALUES ($1)"), rawpg.Parse("r", "SELECT pg_is_in_recovery() AS s"),
		rawpg.Parse("", "SELECT $1::text AS v"), rawpg.Sync())
	for range 3 {
		s.Ask(t, "2 C(INSERT_0_1) Z(I)", rawpg.Bind("", "w", "w"), rawpg.Execute("", 0), rawpg.Sync())
		s.Ask(t, "2 D(u) C(SELECT_1) Z(I)", rawpg.Bind("", "", "u"), rawpg.Execute("", 0), rawpg.Sync())
		cluster.Eventually(t, "the session at its standby", func() bool {
			if err := s.Send(rawpg.Bind("", "r"), rawpg.Execute("", 0), rawpg.Sync()); err != nil {
				t.Fatal(err)
			}
			home := false
			for {
				m, err := s.Receive()
				if err != nil {
					t.Fatal(err)
				}
				home = home || m.String() == "D(t)"
				if m.Type == 'Z' {
					return home
				}
			}
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
	run(t, s, "SET application_name = 'spare'")
	for range 3 {
		insert(t, s)
		atHome(t, s)
		const left = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'spare'"
		cluster.Exec(t, super, left)
		cluster.Eventually(t, "the end of the connection that was left", func() bool {
			return cluster.Text(t, super, "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'spare'") == "0"
		})
		if got := run(t, s, "SELECT 1"); got != "D(1)" {
			t.Errorf("got %s", got)
		}
	}
}

// A session reads its own writes while the standby is behind.
func homeBehind(t *testing.T, c *cluster.Cluster, s *rawpg.Conn, insert func(*testing.T, *rawpg.Conn)) {
	t.Helper()
	standby := c.Connect(t, c.SuperDSN(1))
	other := dial(t, c.DSN(1, c.User))
	cluster.Exec(t, standby, "SELECT pg_wal_replay_pause()")
	before := run(t, other, "SELECT count(*) FROM public.t")
	insert(t, s)
	for range 20 {
		if got := run(t, s, "SELECT count(*) FROM public.t"); got == before {
			t.Fatal("the session does not see its own row")
		}
		time.Sleep(2 * time.Millisecond) //nolint:forbidigo // as in stays
	}
	stays(t, s)
	if got := run(t, other, "SELECT count(*) FROM public.t"); got != before {
		t.Errorf("a session that wrote nothing reads %s, not at its standby", strings.TrimSpace(got))
	}
	cluster.Exec(t, standby, "SELECT pg_wal_replay_resume()")
	atHome(t, s)
	if got := run(t, s, "SELECT count(*) FROM public.t"); got == before {
		t.Error("the session went back in time")
	}
}
