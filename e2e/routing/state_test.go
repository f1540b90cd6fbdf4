// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package routing

import (
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// everything is all that the server knows of a session.
const everything = "SELECT kind, name, value, detail FROM vault.session_state() WHERE name <> 'ins'"

// TestStateMoves gives a session all that it can carry, and looks for it at the
// primary.
func TestStateMoves(t *testing.T) {
	schema(t)
	super := shared.Connect(t, shared.SuperDSN(0))
	for _, sql := range []string{
		"DROP OWNED BY carried; DROP ROLE carried", "CREATE ROLE carried", "GRANT carried TO " + shared.User,
		"GRANT ALL ON SCHEMA r TO carried", "GRANT ALL ON ALL TABLES IN SCHEMA r TO carried",
	} {
		if _, err := super.Exec(t.Context(), sql); err != nil && !strings.HasPrefix(sql, "DROP") {
			t.Fatal(err)
		}
	}
	shared.WaitReplayed(t, 1)
	s := standby(t)
	for _, sql := range []string{
		"SET app.tenant = 'ten''ant \\'", `SET search_path = r, "a b", public`, "SET statement_timeout = '1min'", "SET work_mem = '5MB'",
		"SELECT set_config('my.own', 'x y', false)", "SET DateStyle = 'German'", "SET TimeZone = 'Asia/Tokyo'", "SET extra_float_digits = -3",
		"SET client_encoding = 'LATIN1'", "SET my.latin = 'gr\xfc\xdfe'", "SET ROLE carried",
		"SELECT 0 WHERE false; PREPARE sq(int) AS SELECT $1 + 1 AS n; ",
	} {
		s.Rows(t, sql)
	}
	long := strings.Repeat("n", 70)
	s.Ask(t, "1 1 1 Z(I)", rawpg.Parse("ex", "SELECT $1 || current_user AS n", 25), rawpg.Parse(long, "SELECT count(*) AS n FROM t"),
		rawpg.Parse("ins", "INSERT INTO t (v) VALUES ('state')"), rawpg.Sync())
	before := s.Rows(t, everything)
	s.Ask(t, "1 Z(I)", rawpg.Parse("", "SELECT 7 AS n"), rawpg.Sync())

	s.Ask(t, "2 C(INSERT_0_1) Z(I)", rawpg.Bind("", "ins"), rawpg.Execute("", 0), rawpg.Sync())
	s.Ask(t, "2 D(7) C(SELECT_1) Z(I)", rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync()) // still the unnamed statement
	s.Ask(t, "2 D(xcarried) C(SELECT_1) Z(I)", rawpg.Bind("", "ex", "x"), rawpg.Execute("", 0), rawpg.Sync())
	s.Ask(t, "2 D(1) C(SELECT_1) Z(I)", rawpg.Bind("", long), rawpg.Execute("", 0), rawpg.Sync())
	s.Ask(t, "T(n:23) D(5) C(SELECT_1) Z(I)", rawpg.Query("EXECUTE sq(4)"))
	where(t, s, true)
	if after := s.Rows(t, everything); after != before {
		t.Errorf("the session is another one at the primary:\n%s\nwas\n%s", after, before)
	}
	if got := s.Rows(t, "SHOW my.latin"); got != "D(x6772fcdf65)" {
		t.Errorf("my.latin is %s", got)
	}
}

// TestStateStays: what has no copy elsewhere is named in the hint, and the session
// goes on where it is.
func TestStateStays(t *testing.T) {
	schema(t)
	super := shared.Connect(t, shared.SuperDSN(0))
	cluster.Exec(t, super, "CREATE EXTENSION IF NOT EXISTS dblink")
	shared.WaitReplayed(t, 1)
	for _, c := range []struct{ name, sql, detail string }{
		{"cursor", "DECLARE held CURSOR WITH HOLD FOR SELECT 1 AS n", "cursor WITH HOLD held"},
		{"lock", `DO $$ BEGIN PERFORM pg_advisory_lock(47, 11); END $$`, "advisory lock 47/11/2"},
		{"library", "SELECT dblink_get_connections()", "library dblink"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := standby(t)
			s.Rows(t, c.sql)
			s.Ask(t, "E(25006) Z(I)", rawpg.Query("INSERT INTO r.t (v) VALUES ('stays')"))
			if !strings.Contains(s.Err.Detail, c.detail) {
				t.Errorf("detail %q, want one with %q", s.Err.Detail, c.detail)
			}
			s.Ask(t, "1 E(25006) Z(I)", rawpg.Parse("i", "INSERT INTO r.t (v) VALUES ('stays')"), rawpg.Bind("", "i"), rawpg.Execute("", 0), rawpg.Sync())
			s.Ask(t, "T(w:25) E(25006) Z(I)", rawpg.Query("SELECT r.w('stays')"))
			if !strings.Contains(s.Err.Detail, c.detail) {
				t.Errorf("detail %q, want one with %q", s.Err.Detail, c.detail)
			}
			s.Ask(t, "E(25006) Z(I)", rawpg.Query("SELECT vault.put_secret('routing/stays', 'routing canary')"))
			if err := s.Send(rawpg.Query("BEGIN")); err != nil {
				t.Fatal(err)
			}
			if m, err := s.Receive(); err != nil || m.Type != 'N' {
				t.Fatalf("got %v, %v; want a warning", m, err)
			}
			s.Expect(t, "C(BEGIN) Z(T)")
			s.Ask(t, "E(25006) Z(E)", rawpg.Query("INSERT INTO r.t (v) VALUES ('stays')"))
			s.Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("ROLLBACK"))
			where(t, s, false)
		})
	}
	if got := rows(t, "stays"); got != "0" {
		t.Errorf("%s rows came of what was refused", got)
	}
}

// TestWithoutTheVault: where nothing tells what a session has set, only a fresh
// one moves.
func TestWithoutTheVault(t *testing.T) {
	super := shared.Connect(t, shared.SuperDSN(0))
	for _, sql := range []string{"DROP DATABASE IF EXISTS bare WITH (FORCE)", "CREATE DATABASE bare", "GRANT ALL ON DATABASE bare TO PUBLIC"} {
		cluster.Exec(t, super, sql)
	}
	direct := shared.Connect(t, shared.SuperDSN(0)+" dbname=bare")
	cluster.Exec(t, direct, "CREATE TABLE public.t (a int)")
	cluster.Exec(t, direct, "CREATE FUNCTION public.w() RETURNS int LANGUAGE sql AS 'INSERT INTO public.t VALUES (1) RETURNING a'")
	cluster.Exec(t, direct, "GRANT ALL ON public.t TO PUBLIC")
	shared.WaitReplayed(t, 1)
	dsn := shared.DSN(1, shared.User) + " dbname=bare"
	for _, write := range []step{
		query("C(INSERT_0_1) Z(I)", "INSERT INTO public.t VALUES (1)"), query("T(w:23) D(1) C(SELECT_1) Z(I)", "SELECT public.w()"),
		execute("1 2 T(w:23) D(1) C(SELECT_1) Z(I)", "SELECT public.w()"), query("C(BEGIN) Z(T)", "BEGIN"),
	} {
		s := dial(t, dsn)
		s.Ask(t, write.want, write.msgs...)
	}
	s := dial(t, dsn)
	s.Ask(t, "C(SET) Z(I)", rawpg.Query("SET app.tenant = 'x'"))
	s.Ask(t, "E(25006) Z(I)", rawpg.Query("INSERT INTO public.t VALUES (1)"))
	if !strings.Contains(s.Err.Hint, "CREATE EXTENSION") {
		t.Errorf("hint %q", s.Err.Hint)
	}
}

// TestMoveNotCompiled: what a session has disabled makes the node's own questions
// dear, but not so dear that a server compiles them.
func TestMoveNotCompiled(t *testing.T) {
	schema(t)
	s := standby(t)
	for _, name := range []string{"seqscan", "indexscan", "indexonlyscan", "bitmapscan", "sort", "hashjoin", "mergejoin", "nestloop"} {
		s.Rows(t, "SET enable_"+name+" = off")
	}
	s.Rows(t, "INSERT INTO r.t (v) VALUES ('dear')")
	shared.NeverSent(t, "JIT:") // of auto_explain
}
