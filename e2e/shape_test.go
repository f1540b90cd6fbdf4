// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestOnlySealedColumnsOpen: a record's text in a column of text stays shut,
// whatever the name of the statement or portal stood for before. Who may verify
// a secret, or sees a log, has such texts.
func TestOnlySealedColumnsOpen(t *testing.T) {
	put(t, "shape/mine", "mine", "shape/target", "shape canary")
	const record = "SELECT (vault.verify_begin('shape/target')).records[1]"
	for name, steps := range map[string][][]pgproto3.FrontendMessage{
		"a cursor described after the portal": {
			{rawpg.Query("DECLARE c CURSOR FOR SELECT vault.read_secret('shape/mine')")},
			{rawpg.Parse("", record), rawpg.Bind("", ""), rawpg.DescribePortal(""), rawpg.DescribePortal("c"), rawpg.Execute("", 0), rawpg.Sync()},
		},
		"a statement prepared anew in a DO": {
			{rawpg.Parse("s", "SELECT vault.read_secret('shape/mine')"), rawpg.DescribeStatement("s"), rawpg.Sync()},
			{rawpg.Query("DO $$ BEGIN EXECUTE 'DEALLOCATE s'; EXECUTE 'PREPARE s AS " + strings.ReplaceAll(record, "'", "''") + "'; END $$")},
			{rawpg.Bind("", "s"), rawpg.Execute("", 0), rawpg.Sync()},
		},
		"a portal declared anew": {
			{rawpg.Parse("s", "SELECT vault.read_secret('shape/mine')"), rawpg.Bind("p", "s"), rawpg.DescribePortal("p"), rawpg.Sync()},
			{rawpg.Query("CLOSE p; DECLARE p CURSOR FOR " + record)},
			{rawpg.Execute("p", 0), rawpg.Sync()},
		},
		"an unnamed statement behind a failed one": {
			{rawpg.Parse("", "SELECT vault.read_secret('shape/mine')"), rawpg.DescribeStatement(""), rawpg.Sync()},
			{rawpg.Query("SAVEPOINT a"), rawpg.Parse("", "no statement"), rawpg.Sync(), rawpg.Query("ROLLBACK TO a"), rawpg.Parse("", record), rawpg.Sync()},
			{rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync()},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := openSession(t, shared.DSN(0, shared.User))
			c.must("BEGIN")
			var last answer
			for _, messages := range steps {
				if err := c.Send(messages...); err != nil {
					t.Fatal(err)
				}
				for _, m := range messages {
					switch m.(type) {
					case *pgproto3.Query, *pgproto3.Sync:
						last = c.read()
					}
				}
			}
			if len(last.rows) != 1 || !strings.HasPrefix(last.rows[0], "hv1.") {
				t.Errorf("got %s, want the record's own text", last)
			}
		})
	}
}

// TestPortalsReplaced: a record stays shut in a cursor that takes a portal's name while
// a message runs code that nobody sees in it.
func TestPortalsReplaced(t *testing.T) {
	put(t, "shape/replaced", "replaced canary")
	super := shared.Connect(t, shared.SuperDSN(0))
	for _, sql := range []string{
		"CREATE SCHEMA replaced CREATE TABLE bag (x text) CREATE TABLE t (i int)",
		"INSERT INTO replaced.bag SELECT concat(vault.read_secret('shape/replaced'))",
		"CREATE VIEW replaced.nothing AS SELECT vault.read_secret('shape/replaced') AS v WHERE false",
		`CREATE FUNCTION replaced.by_commit() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE c refcursor := 'p'; BEGIN
			CLOSE c; EXECUTE 'DECLARE p CURSOR WITH HOLD FOR SELECT x FROM replaced.bag'; RETURN NULL; END $$`,
		"CREATE CONSTRAINT TRIGGER late AFTER INSERT ON replaced.t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION replaced.by_commit()",
		`CREATE FUNCTION replaced.by_check(int) RETURNS bool LANGUAGE plpgsql AS $$ DECLARE c refcursor := 'p'; BEGIN
			IF EXISTS (SELECT FROM pg_cursors WHERE name = 'p') THEN CLOSE c; OPEN c FOR SELECT x FROM replaced.bag; END IF; RETURN true; END $$`,
		"CREATE DOMAIN replaced.checked AS int CHECK (replaced.by_check(VALUE))",
		"GRANT ALL ON SCHEMA replaced TO PUBLIC", "GRANT ALL ON ALL TABLES IN SCHEMA replaced TO PUBLIC",
	} {
		cluster.Exec(t, super, sql)
	}
	defer cluster.Exec(t, super, "DROP SCHEMA replaced CASCADE")
	const nothing, checked = "SELECT * FROM replaced.nothing", "SELECT '{1}'::replaced.checked[]"
	portal := []pgproto3.FrontendMessage{rawpg.Parse("", nothing), rawpg.DescribeStatement(""), rawpg.Bind("p", "")}
	for name, between := range map[string][]pgproto3.FrontendMessage{
		"a deferred trigger at Sync":        {rawpg.Sync()},
		"a domain's check at Parse":         {rawpg.Parse("y", checked)},
		"a domain's check at Parse, again":  {rawpg.Parse("", checked)},
		"a domain's check at Describe":      {rawpg.DescribeStatement("old")},
		"a domain's check at a named Parse": {rawpg.Parse("z", checked+", 'vault.read_secret'")},
	} {
		t.Run(name, func(t *testing.T) {
			c := openSession(t, shared.DSN(0, shared.User))
			c.do(rawpg.Parse("old", checked+" FROM replaced.t"), rawpg.Sync())
			cluster.Exec(t, super, "ALTER TABLE replaced.t ADD more int") // so that it is read anew
			cluster.Exec(t, super, "ALTER TABLE replaced.t DROP more")
			messages := slices.Concat(
				[]pgproto3.FrontendMessage{rawpg.Parse("i", "INSERT INTO replaced.t VALUES (1)"), rawpg.Bind("", "i"), rawpg.Execute("", 0)},
				portal, between, []pgproto3.FrontendMessage{rawpg.Execute("p", 0), rawpg.Sync()})
			last := c.do(messages...)
			if _, sync := between[0].(*pgproto3.Sync); sync {
				last = c.read()
			}
			if len(last.rows) != 1 || !strings.HasPrefix(last.rows[0], "hv1.") {
				t.Errorf("got %s, want the record's own text", last)
			}
		})
	}
}

// TestRecordBehindACopy: a record stays shut also if a copy has ended among Syncs, of
// which the server answers only some: rows are opened as those of their own portal.
func TestRecordBehindACopy(t *testing.T) {
	put(t, "shape/copy", "shape canary")
	const record, sealed = "SELECT (vault.verify_begin('shape/copy')).records[1]", "SELECT NULL::sealed"
	c := openSession(t, shared.DSN(0, shared.User)+" options='-c search_path=public,vault'")
	c.must("CREATE TEMP TABLE bag AS " + record + " AS x")
	c.must("CREATE TEMP TABLE c (n int)")
	c.do(rawpg.Query("COPY c FROM STDIN"), rawpg.Sync(), &pgproto3.CopyDone{})
	c.do(rawpg.Parse("", sealed), rawpg.Bind("a", ""), rawpg.DescribePortal("a"), rawpg.Execute("a", 0), rawpg.Sync())
	last := c.do(rawpg.Parse("", sealed), rawpg.Bind("b", ""), rawpg.DescribePortal("b"),
		rawpg.Parse("", "SELECT x FROM bag"), rawpg.Bind("c", ""), rawpg.Execute("c", 0), rawpg.Sync())
	if len(last.rows) != 1 || !strings.HasPrefix(last.rows[0], "hv1.") {
		t.Errorf("got %s, want the record's own text", last)
	}
}

// TestRecordBehindAFailedCopy: of a copy that a statement's trigger fails nobody knows
// whether it has read a Sync in front of the data, and so not whether what stands
// behind the data runs. No row of it is taken for one of the same messages once more.
func TestRecordBehindAFailedCopy(t *testing.T) {
	put(t, "shape/failed", "failed canary")
	put(t, "shape/own", "own")
	c := openSession(t, shared.DSN(0, shared.User))
	c.must("CREATE TEMP TABLE bag AS SELECT (vault.verify_begin('shape/failed')).records[1] AS x")
	c.must("CREATE TEMP VIEW two AS SELECT vault.read_secret('shape/own') FROM generate_series(1, 2)")
	c.must("CREATE TEMP TABLE c (n int)")
	c.must(`CREATE FUNCTION pg_temp.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.2); RAISE 'no'; END $$`)
	c.must("CREATE TRIGGER no BEFORE INSERT ON c EXECUTE FUNCTION pg_temp.no()")
	c.do(rawpg.Parse("bag", "TABLE bag"), rawpg.DescribeStatement("bag"), rawpg.Sync())
	messages := []pgproto3.FrontendMessage{
		rawpg.Parse("", "COPY c FROM STDIN"), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync(),
		&pgproto3.CopyData{Data: []byte("1\n")}, &pgproto3.CopyDone{},
	}
	for _, portal := range []string{"", "other"} { // what the server runs, and what it would be taken for
		messages = append(messages, rawpg.Parse("", "TABLE two"), rawpg.Bind("", ""), rawpg.DescribePortal(""), rawpg.Execute("", 1),
			rawpg.Bind(portal, "bag"), rawpg.Execute("", 0), rawpg.Sync())
	}
	for a := c.do(messages...); ; a = c.read() {
		if slices.Contains(a.rows, "failed canary") {
			t.Error("a record in a column of text was opened")
		}
		if a.status == 0 {
			break
		}
	}
}

// TestReplicationWords: the node and the server read the startup parameter the
// same way, else nothing would be sealed on a session that only one of them
// takes for a replication connection.
func TestReplicationWords(t *testing.T) {
	for _, word := range []string{"off", "OFF", "f", "False", "n", "no", "0"} {
		c := openSession(t, shared.DSN(0, shared.User)+" replication="+word)
		a := c.do(rawpg.Parse("", putText), rawpg.Bind("", "", "shape/replication", "replication canary "+word), rawpg.Execute("", 0), rawpg.Sync())
		if len(a.errors) > 0 || len(a.rows) != 1 {
			t.Errorf("replication=%s: %s", word, a)
		}
	}
	shared.NeverSent(t, "replication canary")
}

// TestNamesBehindAFailedOpening: what stands behind an Execute whose secret does
// not open was not executed, also where the server could have.
func TestNamesBehindAFailedOpening(t *testing.T) {
	spoil(t, "shape/bad")
	c := raw(t)
	c.Ask(t, "1 Z(I)", rawpg.Parse("put", putText), rawpg.Sync())
	c.Ask(t, "1 2 E(XX001) Z(I)", rawpg.Parse("", "SELECT vault.read_secret('shape/bad')"), rawpg.Bind("", ""), rawpg.Execute("", 0),
		rawpg.Parse("new", "SELECT 1"), rawpg.CloseStatement("put"), rawpg.Sync())
	c.Ask(t, "1 Z(I)", rawpg.Parse("new", "SELECT 1"), rawpg.Sync())
	c.Ask(t, "2 D(1) C(SELECT_1) Z(I)", rawpg.Bind("", "put", "shape/behind", "behind canary"), rawpg.Execute("", 0), rawpg.Sync())
	shared.NeverSent(t, "behind canary")
}

// TestEncodingOfABind: the bytes of a value are not UTF-8 if the session says so,
// whatever they look like.
func TestEncodingOfABind(t *testing.T) {
	c := raw(t)
	c.Ask(t, "1 Z(I)", rawpg.Parse("put", putText), rawpg.Sync())
	c.Ask(t, "C(SET) S(client_encoding=LATIN1) Z(I)", rawpg.Query("SET client_encoding = 'LATIN1'"))
	c.Ask(t, "E(0A000) Z(I)", rawpg.Bind("", "put", "shape/encoding", "caf\u00e9"), rawpg.Execute("", 0), rawpg.Sync())
	c.Ask(t, "2 D(1) C(SELECT_1) Z(I)", rawpg.Bind("", "put", "shape/encoding", "cafe"), rawpg.Execute("", 0), rawpg.Sync())
	shared.NeverSent(t, "caf\u00e9")
}
