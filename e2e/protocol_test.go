// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

const (
	readText = "SELECT vault.read_secret($1) AS pw"
	putText  = "SELECT vault.put_secret($1, $2) AS v"
)

// TestNeverDescribe is for clients that execute without asking for a row shape.
func TestNeverDescribe(t *testing.T) {
	put(t, "describe/a", "s3cr3t")
	c := raw(t)
	bind := rawpg.Bind("", "", "describe/a")
	c.Ask(t, "1 2 D(s3cr3t) C(SELECT_1) Z(I)", rawpg.Parse("", readText), bind, rawpg.Execute("", 0), rawpg.Sync())

	// The same statement again, without a Parse; then in binary.
	c.Ask(t, "2 D(s3cr3t) C(SELECT_1) Z(I)", bind, rawpg.Execute("", 0), rawpg.Sync())
	bind.ResultFormatCodes = []int16{1}
	c.Ask(t, "2 D(s3cr3t) C(SELECT_1) Z(I)", bind, rawpg.Execute("", 0), rawpg.Sync())

	// Named, and a named portal; the row shape is asked for late.
	c.Ask(t, "1 Z(I)", rawpg.Parse("s", readText), rawpg.Sync())
	for range 2 {
		c.Ask(t, "2 D(s3cr3t) C(SELECT_1) Z(I)", rawpg.Bind("p", "s", "describe/a"), rawpg.Execute("p", 0), rawpg.Sync())
	}
	c.Ask(t, "t(25) T(pw:25) Z(I)", rawpg.DescribeStatement("s"), rawpg.Sync())
	bound := rawpg.Bind("p", "s", "describe/a")
	bound.ResultFormatCodes = []int16{1}
	c.Ask(t, "2 T(pw:25:b) D(s3cr3t) C(SELECT_1) Z(I)", bound, rawpg.DescribePortal("p"), rawpg.Execute("p", 0), rawpg.Sync())

	// Through a view no text says that a secret comes.
	cluster.Exec(t, client(t), "CREATE VIEW describe_view AS SELECT 1 AS n, vault.read_secret('describe/a') AS pw")
	c.Ask(t, "1 2 D(1,s3cr3t) C(SELECT_1) Z(I)", rawpg.Parse("", "TABLE describe_view"), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync())
	c.Settled(t, "I")
}

// TestFlush is for clients that ask for answers before they end the batch.
func TestFlush(t *testing.T) {
	put(t, "flush/a", "s3cr3t")
	c := raw(t)
	c.Ask(t, "1 t(25) T(pw:25)", rawpg.Parse("", readText), rawpg.DescribeStatement(""), rawpg.Flush())
	c.Ask(t, "2 D(s3cr3t) C(SELECT_1) Z(I)", rawpg.Bind("", "", "flush/a"), rawpg.Execute("", 0), rawpg.Sync())

	c.Ask(t, "1 t(25,25) T(v:23)", rawpg.Parse("", putText), rawpg.DescribeStatement(""), rawpg.Flush())
	c.Ask(t, "2 D(1) C(SELECT_1) Z(I)", rawpg.Bind("", "", "flush/b", "flush canary"), rawpg.Execute("", 0), rawpg.Sync())

	// A batch that is never synced in between: each answer comes when it is asked for.
	c.Ask(t, "1 2", rawpg.Parse("", putText), rawpg.Bind("", "", "flush/b", "flush canary"), rawpg.Flush())
	c.Ask(t, "T(v:23)", rawpg.DescribePortal(""), rawpg.Flush())
	c.Ask(t, "D(2) C(SELECT_1)", rawpg.Execute("", 0), rawpg.Flush())
	c.Ask(t, "1 2 D(flush_canary) C(SELECT_1)", rawpg.Parse("", readText), rawpg.Bind("", "", "flush/b"), rawpg.Execute("", 0), rawpg.Flush())
	c.Settled(t, "I")
	if got := version(t, "flush/b"); got != "2" {
		t.Errorf("version: got %s, want 2", got)
	}
	shared.NeverSent(t, "flush canary")
}

// TestLiteralIsSealedAnew binds a statement with a literal value three times: a
// parameter that the client does not know of carries it.
func TestLiteralIsSealedAnew(t *testing.T) {
	c := raw(t)
	text := "SELECT vault.put_secret($1, 'anew canary') AS v, $2::int4 AS n"
	c.Ask(t, "1 t(25,23) T(v:23,n:23) Z(I)", rawpg.Parse("s", text), rawpg.DescribeStatement("s"), rawpg.Sync())
	for _, want := range []string{"1", "2", "3"} {
		c.Ask(t, "2 D("+want+",7) C(SELECT_1) Z(I)", rawpg.Bind("", "s", "anew/a", "7"), rawpg.Execute("", 0), rawpg.Sync())
	}
	// One format code is for all parameters, two are one each.
	binary := rawpg.Bind("", "s", "anew/a", "\x00\x00\x00\x07")
	binary.ParameterFormatCodes = []int16{1}
	c.Ask(t, "2 D(4,7) C(SELECT_1) Z(I)", binary, rawpg.Execute("", 0), rawpg.Sync())
	binary.ParameterFormatCodes = []int16{0, 1}
	c.Ask(t, "2 D(5,7) C(SELECT_1) Z(I)", binary, rawpg.Execute("", 0), rawpg.Sync())
	// A wrong count, as the server says it.
	c.Ask(t, "E(08P01) Z(I)", rawpg.Bind("", "s", "anew/a"), rawpg.Execute("", 0), rawpg.Sync())
	binary.ParameterFormatCodes = []int16{0, 1, 0}
	c.Ask(t, "E(08P01) Z(I)", binary, rawpg.Execute("", 0), rawpg.Sync())
	c.Ask(t, "1 2 D(anew_canary) C(SELECT_1) Z(I)", rawpg.Parse("", readText), rawpg.Bind("", "", "anew/a"), rawpg.Execute("", 0), rawpg.Sync())
	shared.NeverSent(t, "anew canary")
}

// TestNames: the server keeps 63 bytes of a statement's name.
func TestNames(t *testing.T) {
	c := raw(t)
	long := strings.Repeat("n", 70)
	c.Ask(t, "1 Z(I)", rawpg.Parse(long, putText), rawpg.Sync())
	for i, name := range []string{long[:63], long, long + "more"} {
		c.Ask(t, "2 D("+string(rune('1'+i))+") C(SELECT_1) Z(I)", rawpg.Bind(long, name, "names/a", "names canary"), rawpg.Execute(long[:63], 0), rawpg.Sync())
	}

	// A live name is not parsed again, and stands for what it stood for.
	c.Ask(t, "E(42P05) Z(I)", rawpg.Parse(long[:65], "SELECT $1::text, $2::text"), rawpg.Sync())
	c.Ask(t, "2 D(4) C(SELECT_1) Z(I)", rawpg.Bind("", long, "names/a", "names canary"), rawpg.Execute("", 0), rawpg.Sync())

	// Closed, it is free; closing an unknown one succeeds.
	c.Ask(t, "3 3 1 Z(I)", rawpg.CloseStatement(long), rawpg.CloseStatement("unknown"), rawpg.Parse(long[:64], readText), rawpg.Sync())
	c.Ask(t, "2 D(names_canary) C(SELECT_1) Z(I)", rawpg.Bind("", long, "names/a"), rawpg.Execute("", 0), rawpg.Sync())
	c.Ask(t, "E(26000) Z(I)", rawpg.Bind("", "unknown", "names/a", "names canary"), rawpg.Execute("", 0), rawpg.Sync())

	// Portals: a live name is 42P03; closing the statement leaves its portal runnable.
	c.Ask(t, "2 E(42P03) Z(I)", rawpg.Bind("p", long, "names/a"), rawpg.Bind("p", long, "names/a"), rawpg.Sync())
	c.Ask(t, "2 3 T(pw:25) D(names_canary) C(SELECT_1) 3 E(34000) Z(I)", rawpg.Bind("p", long, "names/a"), rawpg.CloseStatement(long),
		rawpg.DescribePortal("p"), rawpg.Execute("p", 0), rawpg.ClosePortal("p"), rawpg.Execute("p", 0), rawpg.Sync())
	c.Settled(t, "I")
	shared.NeverSent(t, "names canary")
}

// TestSuspendedPortals fetches sealed rows in pieces, from two portals in turn.
func TestSuspendedPortals(t *testing.T) {
	put(t, "portal/1", "one", "portal/2", "two", "portal/3", "three")
	c := raw(t)
	rows := "SELECT n, vault.read_secret('portal/' || n) AS pw FROM generate_series(1, 3) n ORDER BY n"
	back := "SELECT vault.read_secret('portal/' || n) AS pw, n FROM generate_series(1, 3) n ORDER BY n DESC"
	c.Ask(t, "1 1 Z(I)", rawpg.Parse("up", rows), rawpg.Parse("down", back), rawpg.Sync())
	c.Ask(t, "C(BEGIN) Z(T)", rawpg.Query("BEGIN"))
	c.Ask(t, "2 2 D(1,one) s D(three,3) D(two,2) s Z(T)", rawpg.Bind("u", "up"), rawpg.Bind("d", "down"), rawpg.Execute("u", 1), rawpg.Execute("d", 2), rawpg.Sync())
	c.Ask(t, "D(2,two) s D(one,1) C(SELECT_1) Z(T)", rawpg.Execute("u", 1), rawpg.Execute("d", 2), rawpg.Sync())
	c.Ask(t, "D(3,three) C(SELECT_1) C(SELECT_0) 3 3 Z(T)", rawpg.Execute("u", 0), rawpg.Execute("d", 0), rawpg.ClosePortal("u"), rawpg.ClosePortal("d"), rawpg.Sync())

	// The unnamed portal, in a batch without a block.
	c.Ask(t, "C(COMMIT) Z(I)", rawpg.Query("COMMIT"))
	c.Ask(t, "2 D(1,one) s D(2,two) s D(3,three) s C(SELECT_0) Z(I)", rawpg.Bind("", "up"), rawpg.Execute("", 1), rawpg.Execute("", 1),
		rawpg.Execute("", 1), rawpg.Execute("", 1), rawpg.Sync())
	c.Ask(t, "E(34000) Z(I)", rawpg.Execute("", 1), rawpg.Sync())
	c.Settled(t, "I")
}

// TestCursorsAsPortals: an SQL cursor is a portal of the protocol too.
func TestCursorsAsPortals(t *testing.T) {
	put(t, "cursor/a", "first", "cursor/b", "second")
	c := raw(t)
	c.Ask(t, "C(BEGIN) C(DECLARE_CURSOR) C(DECLARE_CURSOR) Z(T)",
		rawpg.Query("BEGIN; DECLARE sealed CURSOR FOR SELECT vault.read_secret('cursor/a') AS pw; DECLARE plain CURSOR FOR SELECT 'plain'::text AS x"))
	// Its shape is its own, not that of the portal that was bound last.
	c.Ask(t, "1 2 T(pw:25) D(second,x) C(SELECT_1) D(first) C(SELECT_1) Z(T)", rawpg.Parse("", "SELECT vault.read_secret('cursor/b') AS pw, 'x' AS x"),
		rawpg.Bind("", ""), rawpg.DescribePortal("sealed"), rawpg.Execute("", 0), rawpg.Execute("sealed", 0), rawpg.Sync())
	c.Ask(t, "1 2 T(x:25) D(second) C(SELECT_1) D(plain) C(SELECT_1) Z(T)", rawpg.Parse("", "SELECT vault.read_secret('cursor/b') AS pw"),
		rawpg.Bind("", ""), rawpg.DescribePortal("plain"), rawpg.Execute("", 0), rawpg.Execute("plain", 0), rawpg.Sync())
	c.Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("ROLLBACK"))

	// A prepared FETCH keeps its old shape in Describe; rows follow the cursor.
	c.Ask(t, "C(BEGIN) C(DECLARE_CURSOR) Z(T)", rawpg.Query("BEGIN; DECLARE c CURSOR FOR SELECT 'a'::text AS a, 'b'::text AS b"))
	c.Ask(t, "1 t T(a:25,b:25) 2 D(a,b) C(FETCH_1) Z(T)", rawpg.Parse("f", "FETCH c"), rawpg.DescribeStatement("f"), rawpg.Bind("", "f"), rawpg.Execute("", 0), rawpg.Sync())
	c.Ask(t, "C(CLOSE_CURSOR) C(DECLARE_CURSOR) Z(T)", rawpg.Query("CLOSE c; DECLARE c CURSOR FOR SELECT 'b'::text AS b, vault.read_secret('cursor/a') AS a"))
	c.Ask(t, "2 D(b,first) C(FETCH_1) Z(T)", rawpg.Bind("", "f"), rawpg.Execute("", 0), rawpg.Sync())
	c.Ask(t, "C(CLOSE_CURSOR) C(DECLARE_CURSOR) Z(T)", rawpg.Query("CLOSE c; DECLARE c CURSOR FOR SELECT vault.read_secret('cursor/b') AS a"))
	c.Ask(t, "2 T(a:25) D(second) C(FETCH_1) Z(T)", rawpg.Bind("", "f"), rawpg.DescribePortal(""), rawpg.Execute("", 0), rawpg.Sync())
	c.Ask(t, "C(CLOSE_CURSOR) C(DECLARE_CURSOR) Z(T)", rawpg.Query("CLOSE c; DECLARE c CURSOR FOR SELECT 'plain'::text AS a"))
	c.Ask(t, "2 D(plain) C(FETCH_1) Z(T)", rawpg.Bind("", "f"), rawpg.Execute("", 0), rawpg.Sync())
	c.Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("ROLLBACK"))
	c.Settled(t, "I")
}

// TestSQLPrepare shares names with the protocol.
func TestSQLPrepare(t *testing.T) {
	put(t, "prepare/a", "s3cr3t")
	for _, user := range []string{shared.User, shared.Superuser} {
		c := dial(t, shared.DSN(0, user))
		c.Ask(t, "C(PREPARE) Z(I)", rawpg.Query("PREPARE r (text) AS SELECT vault.read_secret($1) AS pw"))
		c.Ask(t, "T(pw:25) D(s3cr3t) C(SELECT_1) Z(I)", rawpg.Query("EXECUTE r ('prepare/a')"))
		c.Ask(t, "2 D(s3cr3t) C(SELECT_1) Z(I)", rawpg.Bind("", "r", "prepare/a"), rawpg.Execute("", 0), rawpg.Sync())
		c.Ask(t, "1 2 D(s3cr3t) C(SELECT_1) Z(I)", rawpg.Parse("", "EXECUTE r ('prepare/a')"), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync())
		c.Ask(t, "C(BEGIN) C(DECLARE_CURSOR) Z(T)", rawpg.Query("BEGIN; DECLARE c CURSOR FOR SELECT vault.read_secret('prepare/a') AS pw"))
		c.Ask(t, "D(s3cr3t) C(SELECT_1) Z(T)", rawpg.Execute("c", 0), rawpg.Sync())
		c.Ask(t, "C(ROLLBACK) C(DEALLOCATE) Z(I)", rawpg.Query("ROLLBACK; DEALLOCATE r"))
		c.Ask(t, "C(PREPARE) Z(I)", rawpg.Query("PREPARE r AS SELECT 1 AS one, vault.read_secret('prepare/a') AS pw"))
		c.Ask(t, "2 D(1,s3cr3t) C(SELECT_1) Z(I)", rawpg.Bind("", "r"), rawpg.Execute("", 0), rawpg.Sync())
		c.Ask(t, "C(DISCARD_ALL) Z(I)", rawpg.Query("DISCARD ALL"))
		c.Ask(t, "E(26000) Z(I)", rawpg.Bind("", "r"), rawpg.Execute("", 0), rawpg.Sync())

		// A put prepared by the protocol, executed by SQL, would send its value.
		c.Ask(t, "1 Z(I)", rawpg.Parse("p", putText), rawpg.Sync())
		c.Ask(t, "E(0A000) Z(I)", rawpg.Query("EXECUTE p ('prepare/b', 'prepare canary')"))
		c.Ask(t, "E(0A000) Z(I)", rawpg.Query("EXECUTE p ('prepare/b', 'prepare canary'); SELECT 1"+strings.Repeat(", 1", 100_000)))
		c.Ask(t, "1 2 C(SET) E(0A000) Z(I)", rawpg.Parse("", "SET standard_conforming_strings = off"), rawpg.Bind("", ""), rawpg.Execute("", 0),
			rawpg.Query(`SELECT '\''; EXECUTE p ('prepare/b', 'prepare canary') --'`))
		// Nor when it is gone, of which the client may not know.
		for i, gone := range []string{"DISCARD ALL", "DEALLOCATE ALL"} {
			again := "prepare/" + user + strconv.Itoa(i)
			c.Ask(t, "1 Z(I)", rawpg.Parse("q", putText), rawpg.Sync())
			c.Ask(t, "C("+strings.ReplaceAll(gone, " ", "_")+") Z(I)", rawpg.Query(gone))
			c.Ask(t, "E(26000) Z(I)", rawpg.Bind("", "q", "prepare/b", "prepare canary"), rawpg.Execute("", 0), rawpg.Sync())
			c.Ask(t, "E(0A000) Z(I)", rawpg.Query("EXECUTE q ('prepare/b', 'prepare canary')"))
			c.Ask(t, "1 2 D(1) C(SELECT_1) Z(I)", rawpg.Parse("q", putText), rawpg.Bind("", "q", again, "prepare canary"), rawpg.Execute("", 0), rawpg.Sync())
			c.Ask(t, "C(DISCARD_ALL) Z(I)", rawpg.Query("DISCARD ALL"))
		}
		c.Settled(t, "I")
	}
	shared.NeverSent(t, "prepare canary")
}

// TestRefusedOverAPut: a put whose Parse the node refuses takes away what its name stood
// for, as the server's own refusal of an unnamed one does: the value that is bound next is
// of another secret.
func TestRefusedOverAPut(t *testing.T) {
	for _, name := range []string{"", "p"} {
		s := openSession(t, shared.DSN(0, shared.User))
		put := []pgproto3.FrontendMessage{
			rawpg.Parse(name, "SELECT vault.put_secret('refused/one', $1)"), rawpg.Bind("", name, "refused canary one"), rawpg.Execute("", 0), rawpg.Sync(),
		}
		if a := s.do(put...); len(a.errors) > 0 {
			t.Fatalf("%q: %s", name, a)
		}
		if a := s.do(rawpg.Parse(name, "SELECT vault.put_secret('refused/two', $1"), rawpg.Sync()); len(a.errors) != 1 || a.errors[0].Code != "42601" {
			t.Errorf("%q: Parse: %s", name, a)
		}
		if a := s.do(rawpg.Bind("", name, "refused canary two"), rawpg.Execute("", 0), rawpg.Sync()); len(a.errors) != 1 || a.errors[0].Code != "26000" {
			t.Errorf("%q: Bind: %s", name, a)
		}
		if got := s.must("SELECT vault.read_secret('refused/one')"); len(got) != 1 || got[0] != "refused canary one" {
			t.Errorf("%q: the other secret is %q", name, got)
		}
	}
	shared.NeverSent(t, "refused canary")
}

// TestExecuteOfALostPut: a client may yet execute by SQL what the node has refused, or the
// server has refused, skipped or dropped. Its values are not sent; and the name is the
// client's again once the server has prepared something else by it.
func TestExecuteOfALostPut(t *testing.T) {
	const prepare, execute, plain = "PREPARE p AS " + putText, "EXECUTE p ('lost/a', 'lost canary')", "PREPARE p (text, text) AS SELECT 'plain'"
	wrong := rawpg.Parse("p", putText, 25, 17)
	skipped := rawpg.Parse("", "none")
	for name, before := range map[string][]pgproto3.FrontendMessage{
		"PREPARE":                         {rawpg.Query(prepare)},
		"quoted":                          {rawpg.Query(`PREPARE "q q" AS SELECT 1; PREPARE U&"\0070" AS ` + putText)},
		"bare name":                       {rawpg.Query("BEGIN"), rawpg.Query("PREPARE p AS SELECT put_secret($1, $2)")},
		"in code":                         {rawpg.Query("DO $$ BEGIN EXECUTE '" + prepare + "'; END $$")},
		"in code, in escapes":             {rawpg.Query(`DO $$ BEGIN EXECUTE 'PREPARE U&"\0070" AS ` + putText + `'; END $$`)},
		"behind what cannot be read":      {rawpg.Query(prepare + "; SELECT 'x")},
		"in a failed block":               {rawpg.Query("BEGIN; SELECT 1/0"), rawpg.Query(prepare)},
		"by Parse":                        batch(prepare),
		"skipped by the server":           {skipped, rawpg.Query(prepare), rawpg.Sync()},
		"by Parse, skipped by the server": append([]pgproto3.FrontendMessage{skipped}, batch(prepare)...),
		"by Parse, skipped by the node":   append([]pgproto3.FrontendMessage{wrong}, batch(`PREPARE "p" AS `+putText)...),
		"behind another of the name":      append(batch(plain)[:4], batch(prepare)...),
		"Parse":                           {wrong, rawpg.Sync()},
		"Parse that the server skips":     {skipped, rawpg.Parse("p", putText), rawpg.Sync()},
		"Parse that the server refuses":   {rawpg.Query("BEGIN; SELECT 1/0"), rawpg.Parse("p", putText), rawpg.Sync()},
	} {
		t.Run(name, func(t *testing.T) {
			s := openSession(t, shared.DSN(0, shared.User))
			refused := func(messages ...pgproto3.FrontendMessage) {
				t.Helper()
				if a := s.do(messages...); len(a.errors) == 0 || a.errors[0].Code != "0A000" && (a.status != 'E' || a.errors[0].Code != "25P02") {
					t.Errorf("EXECUTE: %s", a)
				}
			}
			if err := s.Send(before...); err != nil {
				t.Fatal(err)
			}
			for _, m := range before {
				switch m.(type) {
				case *pgproto3.Query, *pgproto3.Sync:
					if name != "skipped by the server" || m == before[len(before)-1] { // a Query that is skipped is not answered
						s.read()
					}
				}
			}
			refused(rawpg.Query(execute))
			refused(batch(execute)...)
			s.must("ROLLBACK")
			refused(rawpg.Query(execute))
			refused(rawpg.Query("EXPLAIN ANALYZE " + execute))
			refused(batch(execute)...)
			s.query("DEALLOCATE p")
			for _, messages := range [][]pgproto3.FrontendMessage{
				{rawpg.Query(plain)}, {rawpg.Query("EXECUTE p ('a', 'b')")}, {rawpg.Query("DEALLOCATE p")}, batch(plain), batch("EXECUTE p ('a', 'b')"),
			} {
				if a := s.do(messages...); len(a.errors) > 0 {
					t.Errorf("the name is not the client's again: %s", a)
				}
			}
		})
	}

	// Refused before it was looked into: the session cannot go to the primary.
	c := openSession(t, shared.DSN(1, shared.User))
	c.must("DECLARE held CURSOR WITH HOLD FOR SELECT 1")
	for _, sql := range []string{"CREATE TABLE never (); " + prepare, execute} {
		if a := c.query(sql); len(a.errors) != 1 || a.errors[0].Code == "26000" {
			t.Errorf("%s: %s", sql, a)
		}
	}

	// So many that not all are remembered.
	c = openSession(t, shared.DSN(0, shared.User))
	const many = 1010
	for i := range many {
		c.do(rawpg.Parse("p"+strconv.Itoa(i), putText), rawpg.Sync())
	}
	c.must("DISCARD ALL")
	for i := range many {
		if a := c.query("EXECUTE p" + strconv.Itoa(i) + " ('lost/a', 'lost canary')"); a.errors[0].Code != "0A000" {
			t.Fatalf("EXECUTE of one of many: %s", a)
		}
	}
	c.must("PREPARE mine (text) AS SELECT 'plain'")
	if got := c.must("EXECUTE mine ('a')"); len(got) != 1 || got[0] != "plain" {
		t.Errorf("another statement: got %q", got)
	}
	shared.NeverSent(t, "lost canary")
}

// TestFunctionCall: the fast path passes but for the vault's own functions.
func TestFunctionCall(t *testing.T) {
	conn := super(t)
	oid := func(signature string) uint32 {
		var n uint32
		if err := conn.QueryRow(t.Context(), "SELECT $1::regprocedure::oid", signature).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	call := func(oid uint32, args ...string) *pgproto3.FunctionCall {
		f := &pgproto3.FunctionCall{Function: oid}
		for _, a := range args {
			f.Arguments = append(f.Arguments, []byte(a))
		}
		return f
	}
	secret := oid("vault.put_secret(text,text,text)")
	c := raw(t)
	c.Ask(t, "V(0000000561c3836263) Z(I)", call(oid("textcat(text,text)"), "aÃ", "bc"))
	c.Ask(t, "E(0A000) Z(I)", call(secret, "call/a", "call canary", "d"))
	c.Ask(t, "E(0A000) Z(I)", call(oid("vault.read_secret(text,integer,boolean)"), "call/a", "1", "f"))
	c.Ask(t, "E(22012) Z(I)", call(oid("int4div(integer,integer)"), "1", "0"))
	c.Ask(t, "C(BEGIN) Z(T)", rawpg.Query("BEGIN"))
	c.Ask(t, "E(0A000) Z(E)", call(secret, "call/a", "call canary", "d"))
	c.Ask(t, "E(25P02) Z(E)", call(oid("textcat(text,text)"), "a", "b"))
	c.Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("ROLLBACK"))
	c.Settled(t, "I")
	shared.NeverSent(t, "call canary")
}

// TestSeveralStatements has several sealed results in one string.
func TestSeveralStatements(t *testing.T) {
	put(t, "several/a", "first", "several/b", "second")
	c := raw(t)
	c.Ask(t, "T(a:25) D(first) C(SELECT_1) C(CREATE_TABLE) T(n:23,b:25) D(1,second) D(2,second) C(SELECT_2) C(DROP_TABLE) Z(I)",
		rawpg.Query(`SELECT vault.read_secret('several/a') AS a; CREATE TEMP TABLE several (n int);
			SELECT n, vault.read_secret('several/b') AS b FROM generate_series(1, 2) n; DROP TABLE several`))
	c.Ask(t, "I Z(I)", rawpg.Query("-- vault.read_secret"))
	c.Ask(t, "T(a:25) D(first) C(SELECT_1) Z(I)", rawpg.Query(";; SELECT vault.read_secret('several/a') AS a ;;"))
	// A put, and what it stored.
	c.Ask(t, "T(v:23) D(1) C(SELECT_1) T(pw:25) D(several_canary) C(SELECT_1) T(v:23,v:23) D(2,1) C(SELECT_1) Z(I)",
		rawpg.Query(`SELECT vault.put_secret('several/c', 'several canary') AS v; SELECT vault.read_secret('several/c') AS pw;
			SELECT vault.put_secret('several/c', 'several canary') AS v, vault.put_secret('several/d', 'several canary') AS v`))
	// An error behind a put undoes it, and its position is that of the client's text.
	c.Ask(t, "T(v:23) D(3) C(SELECT_1) E(42703) Z(I)", rawpg.Query("SELECT vault.put_secret('several/c', 'several canary') AS v; SELECT nowhere"))
	if c.Err.Position != 69 {
		t.Errorf("position: got %d, want 69", c.Err.Position)
	}
	c.Ask(t, "T(pw:25) D(several_canary) C(SELECT_1) Z(I)", rawpg.Query("SELECT vault.read_secret('several/c') AS pw"))
	if got := version(t, "several/c"); got != "2" {
		t.Errorf("version: got %s, want 2", got)
	}
	c.Settled(t, "I")
	shared.NeverSent(t, "several canary")
}
