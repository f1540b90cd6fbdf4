// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package routing

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

const stolen = "stale canary victim"

// TestStolenRecord: a column that was a secret at the standby and is plain text at
// the primary is not opened there. Somebody else's sealed record stands in it, of
// whom the role may read nothing.
func TestStolenRecord(t *testing.T) {
	schema(t)
	super := shared.Connect(t, shared.SuperDSN(0))
	node := dial(t, shared.DSN(0, shared.User))
	node.Rows(t, "SELECT vault.put_secret('stale/victim', '"+stolen+"')")
	node.Rows(t, "SELECT vault.put_secret('stale/mine', 'stale canary mine')")
	record := cluster.Text(t, super, "SELECT vault.read_secret('stale/victim')")
	thief := shared.AddUser(t, "thief", "stale/mine", "read")
	cluster.Exec(t, super, "GRANT CREATE ON DATABASE "+shared.Database+" TO "+thief)
	own := dial(t, shared.DSN(0, thief))
	for _, sql := range []string{
		"CREATE SCHEMA ma", "CREATE VIEW ma.v AS SELECT vault.read_secret('stale/mine') AS s",
		"CREATE SCHEMA mb", "CREATE VIEW mb.v AS SELECT '" + record + "'::text AS s",
	} {
		own.Rows(t, sql)
	}
	own.Ask(t, "T(read_secret:25) E(P0002) Z(I)", rawpg.Query("SELECT vault.read_secret('stale/victim')"))
	shared.WaitReplayed(t, 1)
	t.Run("moved", func(t *testing.T) { stolenMoved(t, thief) })
	t.Run("run again", func(t *testing.T) { stolenAgain(t, own, thief, record) })
	shared.NeverSent(t, stolen)
}

// The statement was described at the standby, and is parsed anew by a move.
func stolenMoved(t *testing.T, thief string) {
	t.Helper()
	for _, name := range []string{"", "n"} {
		s := dial(t, shared.DSN(1, thief)+" search_path=ma")
		s.Ask(t, "1 1 Z(I)", rawpg.Parse("path", "SELECT set_config('search_path', 'mb', false)"), rawpg.Parse("ins", "INSERT INTO r.t (v) VALUES ('stolen')"), rawpg.Sync())
		s.Ask(t, "1 t T(s:25) Z(I)", rawpg.Parse(name, "SELECT s FROM v"), rawpg.DescribeStatement(name), rawpg.Sync())
		s.Ask(t, "2 D(mb) C(SELECT_1) Z(I)", rawpg.Bind("", "path"), rawpg.Execute("", 0), rawpg.Sync())
		s.Ask(t, "2 C(INSERT_0_1) Z(I)", rawpg.Bind("w", "ins"), rawpg.Execute("w", 0), rawpg.Sync())
		s.Ask(t, "2 D(hv1.) C(SELECT_1) Z(I)", rawpg.Bind("", name), rawpg.Execute("", 0), rawpg.Sync())
	}
}

// It was described at the standby, which is behind, and refuses what it runs.
func stolenAgain(t *testing.T, own *rawpg.Conn, thief, record string) {
	t.Helper()
	own.Rows(t, "CREATE FUNCTION ma.w() RETURNS text LANGUAGE sql AS $$ INSERT INTO r.t (v) VALUES ('stolen') RETURNING v $$")
	shared.WaitReplayed(t, 1)
	s := dial(t, shared.DSN(1, thief))
	s.Ask(t, "1 t T(w:25,s:25) Z(I)", rawpg.Parse("", "SELECT ma.w(), s FROM ma.v"), rawpg.DescribeStatement(""), rawpg.Sync())
	replay := shared.Connect(t, shared.SuperDSN(1))
	cluster.Exec(t, replay, "SELECT pg_wal_replay_pause()")
	defer cluster.Exec(t, replay, "SELECT pg_wal_replay_resume()") // also of a test that fails
	own.Rows(t, "DROP VIEW ma.v")
	own.Rows(t, "CREATE VIEW ma.v AS SELECT '"+record+"'::text AS s")
	s.Ask(t, "2 E(0A000) Z(I)", rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync())
}

// TestKeptLeg: the connection to the primary that a session goes back to has no
// unnamed statement of when it was there last. One that put a secret would take a
// value as it is.
func TestKeptLeg(t *testing.T) {
	schema(t)
	node := shared.Nodes[1].StartLoose(t, map[string]string{"VAULT_MOVE_BACK_AFTER": "1ms"})
	s := dial(t, shared.AddressDSN(node.Proxy, shared.User))
	s.Ask(t, "1 1 Z(I)", rawpg.Parse("r", "SELECT pg_is_in_recovery() AS s"), rawpg.Parse("ins", "INSERT INTO r.t (v) VALUES ('kept')"), rawpg.Sync())
	s.Ask(t, "1 2 D(t) C(SELECT_1) Z(I)", rawpg.Parse("", "SELECT vault.put_secret('stale/kept', $1) > 0"),
		rawpg.Bind("", "", "stale canary first"), rawpg.Execute("", 0), rawpg.Sync())
	cluster.Eventually(t, "the session at its standby", func() bool { // no Query, which drops the unnamed statement at the primary
		if err := s.Send(rawpg.Bind("", "r"), rawpg.Execute("", 0), rawpg.Sync()); err != nil {
			t.Fatal(err)
		}
		return slices.Contains(s.Answers(t), "D(t)")
	})
	s.Rows(t, "SELECT 1")                                                                  // drops it at the standby
	s.Ask(t, "2 C(INSERT_0_1) E(26000) Z(I)", rawpg.Bind("", "ins"), rawpg.Execute("", 0), // one batch: it does not go back amid it
		rawpg.Bind("", "", "stale canary second"), rawpg.Execute("", 0), rawpg.Sync())
	shared.NeverSent(t, "stale canary first", "stale canary second")
}

// TestSerializableRead: a session whose transactions are serializable reads secrets,
// at the primary, though it has asked its standby.
func TestSerializableRead(t *testing.T) {
	schema(t)
	dial(t, shared.DSN(0, shared.User)).Rows(t, "SELECT vault.put_secret('stale/serial', 'stale canary serial')")
	shared.WaitReplayed(t, 1)
	const read = "SELECT vault.read_secret('stale/serial') AS s"
	for name, st := range map[string]step{
		"query": query("T(s:25) D(stale_canary_serial) C(SELECT_1) Z(I)", read),
		"batch": execute("1 2 T(s:25) D(stale_canary_serial) C(SELECT_1) Z(I)", read),
		"batch, not described": ask("1 2 D(stale_canary_serial) C(SELECT_1) Z(I)",
			rawpg.Parse("", read), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync()),
	} {
		t.Run(name, func(t *testing.T) {
			s := dial(t, shared.DSN(1, shared.User)+" default_transaction_isolation=serializable")
			s.Ask(t, st.want, st.msgs...)
			where(t, s, true)
		})
	}
	shared.NeverSent(t, "stale canary serial")
}

// TestOwnQuestions: what the node asks a server leaves the client its unnamed
// statement, as a named Parse does.
func TestOwnQuestions(t *testing.T) {
	super := shared.Connect(t, shared.SuperDSN(0))
	for i, node := range []string{"primary", "standby"} {
		t.Run(node, func(t *testing.T) {
			t.Run("new type", func(t *testing.T) { ownType(t, dial(t, shared.DSN(i, shared.User)), super) })
			t.Run("bare name", func(t *testing.T) {
				s := dial(t, shared.DSN(i, shared.User))
				s.Ask(t, "1 Z(I)", rawpg.Parse("", "SELECT 8 AS n"), rawpg.Sync())
				s.Ask(t, "E(0A000) Z(I)", rawpg.Parse("bare", "SELECT put_secret('stale/bare', 'stale canary bare')"), rawpg.Sync())
				s.Ask(t, "2 D(8) C(SELECT_1) Z(I)", rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync())
			})
		})
	}
	shared.NeverSent(t, "stale canary bare")
}

// A result has a type of which the node knows nothing, so that it asks before the
// next statement.
func ownType(t *testing.T, s *rawpg.Conn, super *pgx.Conn) {
	t.Helper()
	schema(t)
	cluster.Exec(t, super, "CREATE TYPE r.en AS ENUM ('x')")
	shared.WaitReplayed(t, 1)
	s.Ask(t, "1 1 Z(I)", rawpg.Parse("en", "SELECT 'x'::r.en"), rawpg.Parse("", "SELECT 7 AS n"), rawpg.Sync())
	if err := s.Send(rawpg.Bind("", "en"), rawpg.DescribePortal(""), rawpg.Execute("", 0), rawpg.Sync()); err != nil {
		t.Fatal(err)
	}
	s.Answers(t) // the type's OID is among them
	s.Ask(t, "1 Z(I)", rawpg.Parse("next", "SELECT 9 AS n"), rawpg.Sync())
	s.Ask(t, "2 D(7) C(SELECT_1) Z(I)", rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync())
}

// TestSkippedNamedParse: a name whose new text the server has skipped stands for the
// older one.
func TestSkippedNamedParse(t *testing.T) {
	schema(t)
	long := strings.Repeat(" ", 1<<20-100) // behind so much the node waits for the answer before it goes on
	s := standby(t)
	s.Ask(t, "1 Z(I)", rawpg.Parse("one", "SELECT 1 AS n"), rawpg.Sync())
	s.Ask(t, "1 E(42601) Z(I)", rawpg.Parse("long", "INSERT INTO r.t (v) VALUES ('skipped')"+long), rawpg.Parse("", "SELEC"),
		rawpg.Parse("one", "INSERT INTO r.t (v) VALUES ('skipped') -- another, of some length, so that it is too much together"), rawpg.Sync())
	s.Ask(t, "2 D(1) C(SELECT_1) Z(I)", rawpg.Bind("", "one"), rawpg.Execute("", 0), rawpg.Sync())
	where(t, s, false)
}

// TestUnnamedOfBefore: a batch that asks for the unnamed statement of before, and parses
// another one that writes, has the standby's own answer: the primary never had that
// statement.
func TestUnnamedOfBefore(t *testing.T) {
	schema(t)
	c := standby(t)
	c.Ask(t, "1 Z(I)", rawpg.Parse("", "SELECT 1 AS one"), rawpg.Sync())
	c.Ask(t, "t T(one:23) 1 2 E(25006) Z(I)",
		rawpg.DescribeStatement(""), rawpg.Parse("", "SELECT r.w('before') AS w"), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync())
	c.Ask(t, "1 2 D(before) C(SELECT_1) Z(I)", rawpg.Parse("", "SELECT r.w('before') AS w"), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync())
}
