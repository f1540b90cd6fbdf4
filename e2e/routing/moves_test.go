// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package routing

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// A step is what a client sends in one write, and what it gets.
type step struct {
	want string
	msgs []pgproto3.FrontendMessage
}

func ask(want string, msgs ...pgproto3.FrontendMessage) step { return step{want, msgs} }

func query(want, sql string) step { return ask(want, rawpg.Query(sql)) }

// execute is a batch of the unnamed statement.
func execute(want, sql string, params ...string) step {
	return ask(want, rawpg.Parse("", sql), rawpg.Bind("", "", params...), rawpg.DescribePortal(""), rawpg.Execute("", 0), rawpg.Sync())
}

// A conversation is what a session sends, and whether it is at the primary
// afterwards.
type conversation struct {
	name    string
	primary bool
	steps   []step
}

var conversations = []conversation{
	{"a read", false, []step{query("T(n:23) D(1) C(SELECT_1) Z(I)", "SELECT 1 AS n"), execute("1 2 T(n:23) D(1) C(SELECT_1) Z(I)", "SELECT 1 AS n")}},
	{"an insert", true, []step{query("C(INSERT_0_1) Z(I)", "INSERT INTO r.t (v) VALUES ('a')")}},
	{"an insert by the extended protocol", true, []step{execute("1 2 n C(INSERT_0_1) Z(I)", "INSERT INTO r.t (v) VALUES ($1)", "b")}},
	{"a function that writes", true, []step{query("T(w:25) D(c) C(SELECT_1) Z(I)", "SELECT r.w('c')")}},
	{"the same, not described", true, []step{
		ask("1 2 D(d) C(SELECT_1) Z(I)", rawpg.Parse("", "SELECT r.w($1)"), rawpg.Bind("", "", "d"), rawpg.Execute("", 0), rawpg.Sync()),
	}},
	{"the same, described", true, []step{execute("1 2 T(w:25) D(e) C(SELECT_1) Z(I)", "SELECT r.w($1)", "e")}},
	{"the same, prepared in a batch of its own", true, []step{
		ask("1 t(25) T(w:25) Z(I)", rawpg.Parse("f", "SELECT r.w($1)"), rawpg.DescribeStatement("f"), rawpg.Sync()),
		ask("2 D(f) C(SELECT_1) Z(I)", rawpg.Bind("", "f", "f"), rawpg.Execute("", 0), rawpg.Sync()),
		ask("2 D(f) C(SELECT_1) Z(I)", rawpg.Bind("", "f", "f"), rawpg.Execute("", 0), rawpg.Sync()),
	}},
	{"the same, unnamed", true, []step{
		ask("1 t(25) T(w:25) Z(I)", rawpg.Parse("", "SELECT r.w($1)"), rawpg.DescribeStatement(""), rawpg.Sync()),
		ask("2 D(g) C(SELECT_1) Z(I)", rawpg.Bind("", "", "g"), rawpg.Execute("", 0), rawpg.Sync()),
		ask("2 D(g) C(SELECT_1) Z(I)", rawpg.Bind("", "", "g"), rawpg.Execute("", 0), rawpg.Sync()),
	}},
	{"a prepared insert moves when it is bound", true, []step{
		ask("1 t(25) n Z(I)", rawpg.Parse("h", "INSERT INTO r.t (v) VALUES ($1)"), rawpg.DescribeStatement("h"), rawpg.Sync()),
		query("T(s:16) D(t) C(SELECT_1) Z(I)", "SELECT pg_is_in_recovery() AS s"),
		ask("2 C(INSERT_0_1) Z(I)", rawpg.Bind("", "h", "h"), rawpg.Execute("", 0), rawpg.Sync()),
	}},
	{"asyncpg: Flush, then the rest of the batch", true, []step{
		ask("1 t(25) n", rawpg.Parse("i", "INSERT INTO r.t (v) VALUES ($1)"), rawpg.DescribeStatement("i"), rawpg.Flush()),
		ask("2 C(INSERT_0_1) Z(I)", rawpg.Bind("", "i", "i"), rawpg.Execute("", 0), rawpg.Sync()),
	}},
	{"a function after Flush", true, []step{
		ask("1 t(25) T(w:25)", rawpg.Parse("j", "SELECT r.w($1)"), rawpg.DescribeStatement("j"), rawpg.Flush()),
		ask("2 D(j) C(SELECT_1) Z(I)", rawpg.Bind("", "j", "j"), rawpg.Execute("", 0), rawpg.Sync()),
	}},
	{"a batch that reads, then writes", true, []step{
		ask("1 2 D(1) C(SELECT_1) 1 2 C(INSERT_0_1) 1 2 D(2) C(SELECT_1) Z(I)",
			rawpg.Parse("", "SELECT 1 AS n"), rawpg.Bind("", ""), rawpg.Execute("", 0),
			rawpg.Parse("", "INSERT INTO r.t (v) VALUES ('k')"), rawpg.Bind("", ""), rawpg.Execute("", 0),
			rawpg.Parse("", "SELECT 2 AS n"), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync()),
	}},
	{"a batch that writes beside a portal that has run to its end", true, []step{
		ask("1 1 2 D(1) s D(2) C(SELECT_1) 2 C(INSERT_0_1) Z(I)", rawpg.Parse("two", "SELECT generate_series(1, 2) AS n"), rawpg.Parse("ins", "INSERT INTO r.t (v) VALUES ('t')"),
			rawpg.Bind("", "two"), rawpg.Execute("", 1), rawpg.Execute("", 0), rawpg.Bind("w", "ins"), rawpg.Execute("w", 0), rawpg.Sync()),
	}},
	{"one that closes it first", true, []step{
		ask("1 1 2 3 2 C(INSERT_0_1) Z(I)", rawpg.Parse("one", "SELECT 1 AS n"), rawpg.Parse("ins", "INSERT INTO r.t (v) VALUES ('u')"),
			rawpg.Bind("", "one"), rawpg.ClosePortal(""), rawpg.Bind("w", "ins"), rawpg.Execute("w", 0), rawpg.Sync()),
	}},
	{"one that takes its place", true, []step{
		ask("1 1 2 2 C(INSERT_0_1) Z(I)", rawpg.Parse("one", "SELECT 1 AS n"), rawpg.Parse("ins", "INSERT INTO r.t (v) VALUES ('v')"),
			rawpg.Bind("", "one"), rawpg.Bind("", "ins"), rawpg.Execute("", 0), rawpg.Sync()),
	}},
	{"one behind another that left its portal open", true, []step{
		ask("1 2 Z(I)", rawpg.Parse("", "SELECT 1 AS n"), rawpg.Bind("", ""), rawpg.Sync()),
		ask("1 2 D(1) s Z(I)", rawpg.Parse("", "SELECT generate_series(1, 2) AS n"), rawpg.Bind("", ""), rawpg.Execute("", 1), rawpg.Sync()),
		ask("1 1 2 C(INSERT_0_1) Z(I)", rawpg.Parse("one", "SELECT 1 AS n"), rawpg.Parse("ins", "INSERT INTO r.t (v) VALUES ('w')"),
			rawpg.Bind("w", "ins"), rawpg.Execute("w", 0), rawpg.Sync()),
	}},
	{"a block", true, []step{
		query("C(BEGIN) Z(T)", "BEGIN"), query("T(s:16) D(f) C(SELECT_1) Z(T)", "SELECT pg_is_in_recovery() AS s"), query("C(COMMIT) Z(I)", "COMMIT"),
	}},
	{"a block by the extended protocol", true, []step{
		ask("1 2 C(BEGIN) 1 2 T(s:16) D(f) C(SELECT_1) Z(T)", rawpg.Parse("", "BEGIN"), rawpg.Bind("", ""), rawpg.Execute("", 0),
			rawpg.Parse("", "SELECT pg_is_in_recovery() AS s"), rawpg.Bind("", ""), rawpg.DescribePortal(""), rawpg.Execute("", 0), rawpg.Sync()),
		query("C(COMMIT) Z(I)", "COMMIT"),
	}},
	{"a block that only reads", false, []step{
		query("C(BEGIN) Z(T)", "BEGIN READ ONLY"), query("T(s:16) D(t) C(SELECT_1) Z(T)", "SELECT pg_is_in_recovery() AS s"),
		query("E(25006) Z(E)", "INSERT INTO r.t (v) VALUES ('l')"), query("C(ROLLBACK) Z(I)", "ROLLBACK"),
	}},
	{"a session that only reads", false, []step{
		query("C(SET) S(default_transaction_read_only=on) Z(I)", "SET default_transaction_read_only = on"),
		query("E(25006) Z(I)", "INSERT INTO r.t (v) VALUES ('l')"), query("C(BEGIN) Z(T)", "BEGIN"), query("C(ROLLBACK) Z(I)", "ROLLBACK"),
	}},
	{"several statements in one text", true, []step{
		query("T(n:23) D(1) C(SELECT_1) C(INSERT_0_1) Z(I)", "SELECT 1 AS n; INSERT INTO r.t (v) VALUES ('m')"),
	}},
	{"a function behind another statement's answer stays refused", false, []step{
		query("T(n:23) D(1) C(SELECT_1) T(w:25) E(25006) Z(I)", "SELECT 1 AS n; SELECT r.w('l')"),
		ask("1 2 D(1) C(SELECT_1) 1 2 E(25006) Z(I)", rawpg.Parse("", "SELECT 1 AS n"), rawpg.Bind("", ""), rawpg.Execute("", 0),
			rawpg.Parse("", "SELECT r.w('l')"), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync()),
	}},
	{"a function whose answer Flush asks for stays refused", false, []step{
		ask("1 2 E(25006)", rawpg.Parse("", "SELECT r.w('l')"), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Flush()),
		ask("Z(I)", rawpg.Sync()),
	}},
	{"a sequence", true, []step{query("T(nextval:20) D(1) C(SELECT_1) Z(I)", "SELECT nextval('r.q')")}},
	{"an advisory lock", true, []step{query("T(pg_advisory_lock:2278) D C(SELECT_1) Z(I)", "SELECT pg_advisory_lock(4711)")}},
	{"LISTEN", true, []step{query("C(LISTEN) Z(I)", "LISTEN c"), query("C(NOTIFY) A(c:x) Z(I)", "NOTIFY c, 'x'")}},
	{"a temporary table", true, []step{query("C(CREATE_TABLE) Z(I)", "CREATE TEMP TABLE tmp (a int)"), query("T(a:23) C(SELECT_0) Z(I)", "TABLE tmp")}},
	{"COPY", true, []step{
		ask("G C(COPY_1) Z(I)", rawpg.Query("COPY r.t (v) FROM STDIN"), &pgproto3.CopyData{Data: []byte("n\n")}, &pgproto3.CopyDone{}),
	}},
	{"COPY of what a function writes", true, []step{query("H d(o_) c C(COPY_1) Z(I)", "COPY (SELECT r.w('o')) TO STDOUT")}},
	{"EXECUTE of an insert", true, []step{
		query("C(PREPARE) Z(I)", "PREPARE p AS INSERT INTO r.t (v) VALUES ($1)"),
		query("C(INSERT_0_1) Z(I)", "EXECUTE p('p')"), query("C(INSERT_0_1) Z(I)", "EXECUTE p('p')"),
	}},
	{"a put", true, []step{query("T(v:23) D(1) C(SELECT_1) Z(I)", "SELECT vault.put_secret('routing/a', 'routing canary a') AS v")}},
	{"a put by the extended protocol", true, []step{
		execute("1 2 T(v:23) D(1) C(SELECT_1) Z(I)", "SELECT vault.put_secret($1, $2) AS v", "routing/b", "routing canary b"),
		execute("1 2 T(pw:25) D(routing_canary_b) C(SELECT_1) Z(I)", "SELECT vault.read_secret($1) AS pw", "routing/b"),
	}},
	{"a prepared put", true, []step{
		ask("1 t(25,25) T(v:23) Z(I)", rawpg.Parse("q", "SELECT vault.put_secret($1, $2) AS v"), rawpg.DescribeStatement("q"), rawpg.Sync()),
		ask("2 D(1) C(SELECT_1) Z(I)", rawpg.Bind("", "q", "routing/c", "routing canary c"), rawpg.Execute("", 0), rawpg.Sync()),
		ask("2 D(2) C(SELECT_1) Z(I)", rawpg.Bind("", "q", "routing/c", "routing canary c"), rawpg.Execute("", 0), rawpg.Sync()),
	}},
	{"pipelined writes", true, []step{
		ask("C(INSERT_0_1) Z(I) T(s:16) D(f) C(SELECT_1) Z(I)", rawpg.Query("INSERT INTO r.t (v) VALUES ('r')"), rawpg.Query("SELECT pg_is_in_recovery() AS s")),
	}},
	{"a function amid pipelined reads", true, []step{
		ask("T(n:23) D(1) C(SELECT_1) Z(I) T(w:25) D(s) C(SELECT_1) Z(I) T(s:16) D(f) C(SELECT_1) Z(I)",
			rawpg.Query("SELECT 1 AS n"), rawpg.Query("SELECT r.w('s')"), rawpg.Query("SELECT pg_is_in_recovery() AS s")),
	}},
	{"an error is the primary's", true, []step{query("E(42P01) Z(I)", "INSERT INTO r.none VALUES (1)")}},
	{"an error of a function is the primary's", true, []step{query("T(w:25) E(22012) Z(I)", "SELECT r.w((SELECT r.w('t'))) WHERE 1 / length(r.w('')) = 0")}},
	{"a syntax error is the standby's", false, []step{query("E(42601) Z(I)", "INSERT INTO"), query("E(42601) Z(I)", "INSERTS INTO x")}},
}

// TestMoves holds conversations with a session at a standby.
func TestMoves(t *testing.T) {
	schema(t)
	for _, c := range conversations {
		t.Run(c.name, func(t *testing.T) {
			s := standby(t)
			for _, st := range c.steps {
				s.Ask(t, st.want, st.msgs...)
			}
			where(t, s, c.primary)
			s.Settled(t, "I")
		})
	}
	for v, want := range map[string]string{"a": "1", "b": "1", "c": "1", "d": "1", "e": "1", "f": "2", "g": "2", "h": "1", "i": "1", "j": "1", "k": "1", "l": "0", "m": "1", "n": "1", "o": "1", "p": "2", "r": "1", "s": "1", "t": "1", "u": "1", "v": "1", "w": "1"} {
		if got := rows(t, v); got != want {
			t.Errorf("%s rows of %q, want %s", got, v, want)
		}
	}
	shared.NeverSent(t, "routing canary")
}

// TestMovesOneByte sends each conversation byte by byte: what comes together is
// not to matter.
func TestMovesOneByte(t *testing.T) {
	schema(t)
	for _, c := range conversations {
		if strings.Contains(c.name, "put") {
			continue // versions go on
		}
		t.Run(c.name, func(t *testing.T) {
			s := standby(t)
			for _, st := range c.steps {
				raw, err := rawpg.Encode(st.msgs...)
				if err != nil {
					t.Fatal(err)
				}
				for i := range raw {
					if err := s.Write(raw[i : i+1]); err != nil {
						t.Fatal(err)
					}
				}
				s.Expect(t, st.want)
			}
			where(t, s, c.primary)
		})
	}
}
