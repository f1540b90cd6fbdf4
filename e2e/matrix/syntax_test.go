// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e && matrix

package matrix

import (
	"slices"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// A novelty is a statement that the parser in the node cannot read, or that is
// new, and the major that has it first. They run in this order.
type novelty struct {
	since int
	sql   string
}

var novelties = []novelty{
	{15, "CREATE TABLE t (id int PRIMARY KEY, x text); INSERT INTO t VALUES (1, 'a'), (2, 'b')"},
	{15, "MERGE INTO t USING (VALUES (1, 'c')) v (id, x) ON t.id = v.id WHEN MATCHED THEN UPDATE SET x = v.x"},
	{16, "SELECT 0x_ff, any_value(x) IS NOT NULL FROM t"},
	{17, "MERGE INTO t USING (VALUES (1, 'd'), (3, 'e')) v (id, x) ON t.id = v.id WHEN MATCHED THEN UPDATE SET x = v.x " +
		"WHEN NOT MATCHED BY SOURCE THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.x) RETURNING merge_action(), t.id"},
	{17, `SELECT * FROM JSON_TABLE('[{"a": 1}, {"a": 2}]', '$[*]' COLUMNS (n FOR ORDINALITY, a int PATH '$.a')) j`},
	{17, `SELECT JSON_VALUE('{"a": 7}', '$.a' RETURNING int), JSON_EXISTS('{}', '$.a')`},
	{18, "INSERT INTO t VALUES (4, 'f') RETURNING WITH (OLD AS was, NEW AS became) was.x, became.x"},
	{18, "UPDATE t SET x = 'g' WHERE id = 4 RETURNING old.x, new.x"},
	{18, "DELETE FROM t WHERE id = 4 RETURNING WITH (OLD AS was) was.*"},
	{18, "CREATE TABLE g (a int, b int GENERATED ALWAYS AS (a * 2) VIRTUAL)"},
	{18, "INSERT INTO g VALUES (21); SELECT * FROM g"},
	{18, "CREATE TABLE p (id int4range, during daterange, PRIMARY KEY (id, during WITHOUT OVERLAPS))"},
	{18, "CREATE TABLE f (id int4range, during daterange, FOREIGN KEY (id, PERIOD during) REFERENCES p (id, PERIOD during))"},
	{18, "INSERT INTO p VALUES ('[1,2)', '[2026-01-01,2026-12-31)'); INSERT INTO f VALUES ('[1,2)', '[2026-02-01,2026-03-01)')"},
	{18, "INSERT INTO p VALUES ('[1,2)', '[2026-06-01,2026-07-01)')"}, // 23P01: it overlaps
	{18, "ALTER TABLE t ADD CONSTRAINT positive CHECK (id > 0) NOT ENFORCED"},
	{18, "ALTER TABLE t ADD CONSTRAINT x_there NOT NULL x NOT VALID"},
	{18, "SELECT uuid_extract_version(uuidv7()), casefold('ÄB')"},
	{17, "EXPLAIN (COSTS OFF, MEMORY OFF) SELECT 1"},
}

// fails are novelties that no major runs without an error.
var fails = []string{"[2026-06-01,2026-07-01)"}

// TestNewSyntax sends what the node's parser does not know, as a Query and in the
// extended protocol, to the server and to the nodes: the answers are the same, and
// the server has seen each text as it was sent.
func TestNewSyntax(t *testing.T) {
	check(t, "syntax that the node's parser does not know")
	version := major(t)
	ways := map[string]string{
		"direct":                    shared.SuperDSN(0),
		"node beside the primary":   shared.DSN(0, shared.Superuser),
		"node beside a standby":     shared.DSN(1, shared.Superuser),
		"direct, extended":          shared.SuperDSN(0),
		"node, extended":            shared.DSN(0, shared.Superuser),
		"node of standby, extended": shared.DSN(1, shared.Superuser),
	}
	said := map[string][]string{}
	for way, dsn := range ways {
		c := dial(t, dsn)
		schema := `"` + way + `"`
		c.Rows(t, "CREATE SCHEMA "+schema)
		c.Rows(t, "SET search_path = "+schema)
		for _, n := range novelties {
			said[way] = append(said[way], answers(t, c, n.sql+" -- "+way, strings.Contains(way, "extended")))
		}
	}
	logged := shared.ServerLog(t, 0) + shared.ServerLog(t, 1)
	for i, n := range novelties {
		direct := said["direct"][i]
		failed := strings.Contains(direct, "E(")
		if wanted := version < n.since || slices.ContainsFunc(fails, func(f string) bool { return strings.Contains(n.sql, f) }); failed != wanted {
			t.Errorf("PostgreSQL %d, %s: failed %v, want %v: %s", version, n.sql, failed, wanted, direct)
		}
		for way := range ways {
			want := direct
			if strings.Contains(way, "extended") {
				want = said["direct, extended"][i]
			}
			if got := said[way][i]; got != want {
				t.Errorf("%s, %s: got\n%s\nwant\n%s", way, n.sql, got, want)
			}
			sent := n.sql + " -- " + way
			if strings.Contains(way, "extended") {
				sent = sent[strings.LastIndex(sent, "; ")+1:] // the last of its statements
			}
			if !strings.Contains(logged, sent+"\n") {
				t.Errorf("%s: the server has not seen %s", way, sent)
			}
		}
	}
}

// answers is what a text brings; in the extended protocol its statements one
// after the other.
func answers(t *testing.T, c *rawpg.Conn, sql string, extended bool) string {
	t.Helper()
	if !extended {
		if err := c.Send(rawpg.Query(sql)); err != nil {
			t.Fatal(err)
		}
		return strings.Join(c.Answers(t), " ")
	}
	var all []string
	for statement := range strings.SplitSeq(sql, "; ") {
		if err := c.Send(rawpg.Parse("", statement), rawpg.Bind("", ""), rawpg.DescribePortal(""), rawpg.Execute("", 0), rawpg.Sync()); err != nil {
			t.Fatal(err)
		}
		all = append(all, c.Answers(t)...)
	}
	return strings.Join(all, " ")
}

// TestNewSyntaxMoves has a session beside a standby begin with a write that its node
// cannot read: the standby refuses it, and it runs at the primary.
func TestNewSyntaxMoves(t *testing.T) {
	check(t, "a write in such syntax, beside a standby, runs at the primary")
	version := major(t)
	cluster.Exec(t, shared.Connect(t, shared.DSN(0, shared.User)), "CREATE TABLE moved (x int)")
	shared.WaitReplayed(t, 1)
	for _, extended := range []bool{false, true} {
		c := dial(t, shared.DSN(1, shared.User))
		want := "T(x:23) D(1) C(INSERT_0_1) Z(I)"
		if version < 18 {
			want = "E(42601) Z(I)"
		}
		got := answers(t, c, "INSERT INTO moved VALUES (1) RETURNING WITH (NEW AS became) became.x", extended)
		if got = strings.TrimPrefix(got, "1 2 "); got != want {
			t.Errorf("extended %v: got %s, want %s", extended, got, want)
		}
	}
}

// TestNewSyntaxAndVault has new syntax around calls of the vault: a read is opened,
// and a value never travels in a text that the node cannot read.
func TestNewSyntaxAndVault(t *testing.T) {
	check(t, "such syntax around a call of the vault: reads open, puts are refused by the node")
	version := major(t)
	const canary = "matrix-canary"
	owner := shared.Connect(t, shared.DSN(0, shared.User))
	cluster.Exec(t, owner, "SELECT vault.put_secret('matrix/a', $1)", canary)
	cluster.Exec(t, owner, "CREATE TABLE around (id int PRIMARY KEY, x text)")
	cluster.Exec(t, owner, "INSERT INTO around VALUES (1, 'a')")
	for i, n := range shared.Nodes {
		t.Run(string(n.Role), func(t *testing.T) {
			c := dial(t, shared.DSN(i, shared.User))
			const read = "UPDATE around SET x = x RETURNING WITH (OLD AS was) was.x, vault.read_secret('matrix/a') AS pw"
			want := "T(x:25,pw:25) D(a," + canary + ") C(UPDATE_1) Z(I)"
			if version < 18 {
				want = "E(42601) Z(I)"
			}
			for _, extended := range []bool{false, true} {
				got := strings.TrimPrefix(answers(t, c, read, extended), "1 2 ")
				if extended && n.Role == devcluster.RoleStandby && version >= 18 {
					// What nobody can read is not known to write: it is refused, but in a block.
					if !strings.HasSuffix(got, "E(25006) Z(I)") {
						t.Errorf("got %s, want 25006", got)
					}
					c.Ask(t, "C(BEGIN) Z(T)", rawpg.Query("BEGIN"))
					got = strings.Replace(strings.TrimPrefix(answers(t, c, read, extended), "1 2 "), "Z(T)", "Z(I)", 1)
					c.Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("ROLLBACK"))
				}
				if got != want {
					t.Errorf("extended %v: got %s, want %s", extended, got, want)
				}
				// The next one begins at its own server.
				_ = c.Close() // nothing is owed
				c = dial(t, shared.DSN(i, shared.User))
			}
			for _, put := range []string{
				"UPDATE around SET x = x RETURNING WITH (OLD AS was) was.x, vault.put_secret('matrix/b', '" + canary + "')",
				"MERGE INTO around USING (VALUES (1)) v (id) ON around.id = v.id WHEN MATCHED THEN DO NOTHING RETURNING merge_action(), vault.put_secret('matrix/b', '" + canary + "')",
				"CREATE TABLE v (a text, b text GENERATED ALWAYS AS (vault.put_secret('matrix/b', '" + canary + "')::text) VIRTUAL)",
			} {
				for _, extended := range []bool{false, true} {
					if got := answers(t, c, put, extended); got != "E(42601) Z(I)" || !strings.Contains(c.Err.Hint, "grammar of PostgreSQL") {
						t.Errorf("%s: extended %v: got %s, hint %q", put, extended, got, c.Err.Hint)
					}
				}
			}
		})
	}
	shared.NeverSent(t, canary)
}
