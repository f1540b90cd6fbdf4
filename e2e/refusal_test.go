// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestPipeline has an error in the middle of a pipeline: what is behind it up to
// Sync is skipped, what is behind that is answered.
func TestPipeline(t *testing.T) {
	put(t, "pipe/a", "s3cr3t")
	c := raw(t)
	read := []pgproto3.FrontendMessage{rawpg.Parse("", readText), rawpg.Bind("", "", "pipe/a"), rawpg.Execute("", 0)}
	write := func(name string) []pgproto3.FrontendMessage {
		return []pgproto3.FrontendMessage{rawpg.Parse("", putText), rawpg.Bind("", "", name, "pipe canary"), rawpg.Execute("", 0)}
	}
	plain := func(sql string) []pgproto3.FrontendMessage {
		return []pgproto3.FrontendMessage{rawpg.Parse("", sql), rawpg.Bind("", ""), rawpg.Execute("", 0)}
	}
	sync := []pgproto3.FrontendMessage{rawpg.Sync()}
	join := func(parts ...[]pgproto3.FrontendMessage) (all []pgproto3.FrontendMessage) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	secretRow, one := "1 2 D(s3cr3t) C(SELECT_1)", "1 2 D(1) C(SELECT_1)"

	c.Ask(t, one+" "+secretRow+" 1 E(22012) Z(I) "+secretRow+" Z(I)",
		join(plain("SELECT 1"), read, plain("SELECT 1/0"), read, write("pipe/b"), sync, read, sync)...)
	c.Ask(t, one+" 1 2 D(1) C(SELECT_1) 1 E(22012) Z(I) "+secretRow+" Z(I)",
		join(plain("SELECT 1"), write("pipe/b"), plain("SELECT 1/0"), read, sync, read, sync)...)
	if got := version(t, "pipe/b"); got != "0" {
		t.Errorf("a put in a failed batch: got version %s, want none", got)
	}
	c.Ask(t, "1 2 D(1) C(SELECT_1) 1 2 D(2) C(SELECT_1) Z(I) "+one+" 1 2 D(3) C(SELECT_1) Z(I)",
		join(write("pipe/b"), write("pipe/b"), sync, plain("SELECT 1"), write("pipe/b"), sync)...)

	// The node's own refusal stands in its place among the answers.
	refused := plain("SELECT vault.put_secret('pipe/b', 'pipe ' || 'canary')")
	c.Ask(t, "1 2 D C(SELECT_1) 3 E(0A000) Z(I) "+one+" Z(I)",
		join(plain("SELECT pg_sleep(0.1)"), []pgproto3.FrontendMessage{rawpg.CloseStatement("none")}, refused, plain("SELECT 1"), sync, plain("SELECT 1"), sync)...)
	c.Ask(t, "E(0A000) Z(I) "+one+" Z(I)", join(refused, plain("SELECT 1"), sync, plain("SELECT 1"), sync)...)
	c.Ask(t, secretRow+" E(0A000) Z(I) "+secretRow+" Z(I)", join(read, refused, read, sync, read, sync)...)
	// What stood in front of it in the batch is undone.
	c.Ask(t, "1 2 C(CREATE_TABLE) E(0A000) Z(I) 1 2 D(∅) C(SELECT_1) Z(I)",
		join(plain("CREATE TABLE pipe_undone ()"), refused, sync, plain("SELECT to_regclass('pipe_undone')"), sync)...)
	// Between Sync and Sync a Query is dropped by the server after an error, and ends no skipping.
	c.Ask(t, "E(0A000) Z(I)", join(refused, []pgproto3.FrontendMessage{rawpg.Query("SELECT 1")}, sync)...)
	c.Ask(t, "1 E(22012) Z(I)", join(plain("SELECT 1/0"), []pgproto3.FrontendMessage{rawpg.Query("SELECT vault.put_secret('pipe/b', 'pipe canary')")}, sync)...)
	c.Settled(t, "I")
	if got := version(t, "pipe/b"); got != "3" {
		t.Errorf("version: got %s, want 3", got)
	}
	shared.NeverSent(t, "pipe canary")
}

// refusals are texts that the node answers itself; %s is a value.
var refusals = []struct{ sql, code string }{
	{"SELECT vault.put_secret('ref/a', '%s' || 'x')", "0A000"},
	{"SELECT vault.putsecret('ref/a', '%s')", "42883"},
	{"SELECT vault.put_secret('ref/a')", "42883"},
	{"SELECT vault.put_secret('ref//a', '%s')", "22023"},
	{"SELECT vault.put_secret('ref/a', '%s', nonsense => 1)", "42883"},
	{"SELECT vault.create_secret('%s', 'ref/a')", "22023"},
	{"DO $$ BEGIN PERFORM vault.put_secret('ref/a', '%s'); END $$", "0A000"},
	{"PREPARE ref AS SELECT vault.put_secret('ref/a', '%s')", "0A000"},
	{"CREATE VIEW ref AS SELECT vault.put_secret('ref/a', '%s')", "0A000"},
	{"SELECT vault.put_secret('ref/a', '%s') FROM", "42601"},
	{"SELECT vault.put_secret('ref/a', NULL)", "22004"},
}

// TestRefusals answers in the place of the server, with its own state: outside a
// block, inside one, in a failed one, in both protocols.
func TestRefusals(t *testing.T) {
	for _, r := range refusals {
		t.Run(r.code+" "+r.sql, func(t *testing.T) {
			c := raw(t)
			sql := strings.ReplaceAll(r.sql, "%s", "refusal canary")
			e := "E(" + r.code + ")"
			extended := []pgproto3.FrontendMessage{rawpg.Parse("", sql), rawpg.DescribeStatement(""), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync()}
			c.Ask(t, e+" Z(I)", rawpg.Query(sql))
			c.Ask(t, e+" Z(I)", extended...)
			for _, msgs := range [][]pgproto3.FrontendMessage{{rawpg.Query(sql)}, extended} {
				c.Ask(t, "C(BEGIN) Z(T)", rawpg.Query("BEGIN"))
				c.Ask(t, e+" Z(E)", msgs...)
				c.Ask(t, "E(25P02) Z(E)", rawpg.Query("SELECT 1"))
				if err := c.Send(msgs...); err != nil {
					t.Fatal(err)
				}
				m, err := c.Receive()
				if got := m.String(); err != nil || got != "E(25P02)" && got != e {
					t.Fatalf("in a failed block: got %s %v, want E(25P02) or %s", got, err, e)
				}
				c.Expect(t, "Z(E)")
				c.Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("ROLLBACK"))
			}
			// In a savepoint, which can be rolled back to.
			c.Ask(t, "C(BEGIN) C(SAVEPOINT) Z(T)", rawpg.Query("BEGIN; SAVEPOINT s"))
			c.Ask(t, e+" Z(E)", extended...)
			c.Ask(t, "C(ROLLBACK) T(?column?:23) D(1) C(SELECT_1) C(COMMIT) Z(I)", rawpg.Query("ROLLBACK TO s; SELECT 1; COMMIT"))
			// In the middle of a batch that did something.
			c.Ask(t, "1 2 D(1) C(SELECT_1) "+e+" Z(I)", append([]pgproto3.FrontendMessage{rawpg.Parse("", "SELECT 1"), rawpg.Bind("", ""), rawpg.Execute("", 0)}, extended...)...)
			c.Settled(t, "I")
		})
	}
	shared.NeverSent(t, "refusal canary")
}

// TestFailedBlock: a put in a failed block gets the server's own answer and
// asks the server nothing.
func TestFailedBlock(t *testing.T) {
	c := raw(t)
	c.Ask(t, "1 Z(I)", rawpg.Parse("p", putText), rawpg.Sync())
	c.Ask(t, "C(BEGIN) Z(T)", rawpg.Query("BEGIN"))
	c.Ask(t, "E(22012) Z(E)", rawpg.Query("SELECT 1/0"))
	c.Ask(t, "E(25P02) Z(E)", rawpg.Query("SELECT vault.put_secret('failed/a', 'failed canary')"))
	c.Ask(t, "E(25P02) Z(E)", rawpg.Bind("", "p", "failed/a", "failed canary"), rawpg.Execute("", 0), rawpg.Sync())
	c.Ask(t, "E(25P02) Z(E)", rawpg.Parse("", putText), rawpg.Bind("", "", "failed/a", "failed canary"), rawpg.Execute("", 0), rawpg.Sync())
	c.Ask(t, "E(25P02) Z(E)", rawpg.Query("SELECT vault.read_secret('failed/a')"))
	c.Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("ROLLBACK"))
	c.Settled(t, "I")
	shared.NeverSent(t, "failed canary")
}

// TestErrorOfTheLock: an error of next_version is the answer to the client's
// message.
func TestErrorOfTheLock(t *testing.T) {
	reader := shared.AddUser(t, "lock_error_reader", "lockerror/*", "read")
	put(t, "lockerror/a", "s3cr3t")
	c := dial(t, shared.DSN(0, reader))
	putLiteral := rawpg.Query("SELECT vault.put_secret('lockerror/a', 'lockerror canary')")
	extended := []pgproto3.FrontendMessage{
		rawpg.Parse("", putText), rawpg.DescribeStatement(""), rawpg.Bind("", "", "lockerror/a", "lockerror canary"),
		rawpg.DescribePortal(""), rawpg.Execute("", 0), rawpg.Sync(),
	}
	c.Ask(t, "E(42501) Z(I)", putLiteral)
	c.Ask(t, "1 t(25,25) T(v:23) E(42501) Z(I)", extended...)
	c.Ask(t, "C(BEGIN) Z(T)", rawpg.Query("BEGIN"))
	c.Ask(t, "E(42501) Z(E)", putLiteral)
	c.Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("ROLLBACK"))
	c.Ask(t, "C(BEGIN) C(SAVEPOINT) Z(T)", rawpg.Query("BEGIN; SAVEPOINT s"))
	c.Ask(t, "1 t(25,25) T(v:23) E(42501) Z(E)", extended...)
	c.Ask(t, "C(ROLLBACK) T(pw:25) D(s3cr3t) C(SELECT_1) C(COMMIT) Z(I)", rawpg.Query("ROLLBACK TO s; SELECT vault.read_secret('lockerror/a') AS pw; COMMIT"))
	c = raw(t)
	c.Ask(t, "E(42710) Z(I)", rawpg.Query("SELECT vault.create_secret('lockerror/a', 'manual', 'lockerror canary')"))
	c.Settled(t, "I")
	shared.NeverSent(t, "lockerror canary")
}

// TestOpeningFails damages a secret: one error in place of the rows, nothing of
// the statement remains, and the session goes on.
func TestOpeningFails(t *testing.T) {
	spoil(t, "spoilt/a")
	put(t, "spoilt/good", "s3cr3t")
	cluster.Exec(t, client(t), "CREATE TABLE spoilt (n int)")
	const code = "E(XX001)"
	c := raw(t)
	bad := []pgproto3.FrontendMessage{rawpg.Parse("", readText), rawpg.Bind("", "", "spoilt/a"), rawpg.Execute("", 0)}
	described := []pgproto3.FrontendMessage{rawpg.Parse("", readText), rawpg.DescribeStatement(""), rawpg.Bind("", "", "spoilt/a"), rawpg.Execute("", 0)}
	good := []pgproto3.FrontendMessage{rawpg.Parse("", readText), rawpg.Bind("", "", "spoilt/good"), rawpg.Execute("", 0)}
	insert := []pgproto3.FrontendMessage{rawpg.Parse("", "INSERT INTO spoilt VALUES (1)"), rawpg.Bind("", ""), rawpg.Execute("", 0)}
	sync := []pgproto3.FrontendMessage{rawpg.Sync()}
	join := func(parts ...[]pgproto3.FrontendMessage) (all []pgproto3.FrontendMessage) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	empty := func(t *testing.T) {
		t.Helper()
		if got := cluster.Text(t, super(t), "SELECT count(*)::text FROM spoilt"); got != "0" {
			t.Errorf("rows that should have been undone: got %s, want 0", got)
		}
	}

	c.Ask(t, "T(pw:25) "+code+" Z(I)", rawpg.Query("SELECT vault.read_secret('spoilt/a') AS pw"))
	c.Ask(t, "1 2 "+code+" Z(I)", join(bad, sync)...)
	c.Ask(t, "1 t(25) T(pw:25) 2 "+code+" Z(I)", join(described, sync)...)
	// The whole batch is undone, before and behind it.
	c.Ask(t, "1 2 C(INSERT_0_1) 1 2 "+code+" Z(I) 1 2 D(s3cr3t) C(SELECT_1) Z(I)", join(insert, bad, sync, good, sync)...)
	empty(t)
	c.Ask(t, "1 2 "+code+" Z(I) 1 2 D(s3cr3t) C(SELECT_1) Z(I)", join(bad, insert, good, sync, good, sync)...)
	empty(t)
	// In a block and in a savepoint.
	for _, msgs := range [][]pgproto3.FrontendMessage{{rawpg.Query("SELECT vault.read_secret('spoilt/a') AS pw")}, join(described, sync)} {
		want := "T(pw:25) " + code
		if len(msgs) > 1 {
			want = "1 t(25) T(pw:25) 2 " + code
		}
		c.Ask(t, "C(BEGIN) C(INSERT_0_1) Z(T)", rawpg.Query("BEGIN; INSERT INTO spoilt VALUES (2)"))
		c.Ask(t, want+" Z(E)", msgs...)
		c.Ask(t, "E(25P02) Z(E)", rawpg.Query("SELECT 1"))
		c.Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("COMMIT"))
		empty(t)
		c.Ask(t, "C(BEGIN) C(SAVEPOINT) C(INSERT_0_1) Z(T)", rawpg.Query("BEGIN; SAVEPOINT s; INSERT INTO spoilt VALUES (3)"))
		c.Ask(t, want+" Z(E)", msgs...)
		c.Ask(t, "C(ROLLBACK) T(pw:25) D(s3cr3t) C(SELECT_1) C(COMMIT) Z(I)", rawpg.Query("ROLLBACK TO s; SELECT vault.read_secret('spoilt/good') AS pw; COMMIT"))
		empty(t)
	}
	// Several results in a string: the first error ends it for the client.
	c.Ask(t, "T(pw:25) D(s3cr3t) C(SELECT_1) T(pw:25) "+code+" Z(I)",
		rawpg.Query("SELECT vault.read_secret('spoilt/good') AS pw; SELECT vault.read_secret('spoilt/a') AS pw; SELECT 1; SELECT vault.read_secret('spoilt/good')"))
	// Rows in front of the bad one are given; a suspended portal fails where it is fetched.
	c.Ask(t, "C(BEGIN) Z(T)", rawpg.Query("BEGIN"))
	c.Ask(t, "1 2 D(s3cr3t) s Z(T)", rawpg.Parse("", "SELECT vault.read_secret(n) FROM unnest('{spoilt/good,spoilt/a}'::text[]) WITH ORDINALITY u(n, i) ORDER BY i"),
		rawpg.Bind("p", ""), rawpg.Execute("p", 1), rawpg.Sync())
	c.Ask(t, code+" Z(E)", rawpg.Execute("p", 1), rawpg.Execute("p", 1), rawpg.Sync())
	c.Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("ROLLBACK"))
	// An Execute that is flushed, not synced: the error comes at once.
	c.Ask(t, "1 2 C(INSERT_0_1) 1 2 "+code, join(insert, bad, []pgproto3.FrontendMessage{rawpg.Flush()})...)
	c.Ask(t, "Z(I)", join(insert, sync)...)
	empty(t)
	// The statement that wrote and returned it, in a Query outside a block, stays: the error says so.
	c.Ask(t, "T(pw:25) "+code+" Z(I)", rawpg.Query("INSERT INTO spoilt VALUES (4) RETURNING vault.read_secret('spoilt/a') AS pw"))
	if c.Err.Detail == "" {
		t.Error("a committed statement whose rows failed: got no detail")
	}
	c.Ask(t, "C(DELETE_1) Z(I)", rawpg.Query("DELETE FROM spoilt"))
	// A COPY behind a failed opening in one string is ended by the node.
	c.Ask(t, "T(pw:25) "+code+" Z(I)", rawpg.Query("SELECT vault.read_secret('spoilt/a') AS pw; COPY spoilt FROM STDIN; SELECT 1"))
	c.Settled(t, "I")
	empty(t)
}

// TestSkippedParse: a value bound to a name whose put never reached the server
// must not go there in clear.
func TestSkippedParse(t *testing.T) {
	const harmless = "SELECT $1::text, $2::text"
	failing := rawpg.Parse("bad", "SELECT nowhere")
	use := func(name string) []pgproto3.FrontendMessage {
		return []pgproto3.FrontendMessage{rawpg.Bind("", name, "skipped/a", "skipped canary"), rawpg.Execute("", 0), rawpg.Sync()}
	}
	for _, name := range []string{"", "s"} {
		t.Run("name "+name, func(t *testing.T) {
			c := raw(t)
			c.Ask(t, "1 Z(I)", rawpg.Parse(name, harmless), rawpg.Sync())
			// The Parse of a put is skipped. The client may believe in it.
			c.Ask(t, "E(42703) Z(I)", failing, rawpg.CloseStatement(name), rawpg.Parse(name, putText), rawpg.Sync())
			c.Ask(t, "E(26000) Z(I)", use(name)...)
			// The same, refused by the node.
			c.Ask(t, "3 1 Z(I)", rawpg.CloseStatement(name), rawpg.Parse(name, harmless), rawpg.Sync())
			c.Ask(t, "E(0A000) Z(I)", rawpg.Parse(name, "SELECT vault.put_secret($1, $2 || 'x')"), rawpg.Sync())
			c.Ask(t, "E(26000) Z(I)", use(name)...)
			// All in one write: the node cannot know yet.
			c.Ask(t, "3 1 Z(I)", rawpg.CloseStatement(name), rawpg.Parse(name, harmless), rawpg.Sync())
			c.Ask(t, "E(42703) Z(I) E(26000) Z(I)", append([]pgproto3.FrontendMessage{failing, rawpg.CloseStatement(name), rawpg.Parse(name, putText), rawpg.Sync()}, use(name)...)...)

			// The other way round: the put stays when a harmless Parse is skipped.
			c.Ask(t, "3 1 Z(I)", rawpg.CloseStatement(name), rawpg.Parse(name, putText), rawpg.Sync())
			c.Ask(t, "E(42703) Z(I)", failing, rawpg.CloseStatement(name), rawpg.Parse(name, harmless), rawpg.Sync())
			c.Ask(t, "2 D(1) C(SELECT_1) Z(I)", use(name)...)
			c.Ask(t, "E(22012) Z(I)", rawpg.Query("SELECT 1/0"))
			cluster.Exec(t, client(t), "SELECT vault.delete_secret('skipped/a')")
			cluster.Exec(t, super(t), "DELETE FROM vault.secrets WHERE name = 'skipped/a'")
			c.Settled(t, "I")
		})
	}
	// A skipped Query destroys nothing.
	c := raw(t)
	c.Ask(t, "1 E(42703) Z(I)", rawpg.Parse("", putText), failing, rawpg.Query("SELECT 1"), rawpg.Sync())
	c.Ask(t, "2 D(1) C(SELECT_1) Z(I)", use("")...)
	// One that runs destroys the unnamed statement.
	c.Ask(t, "T(one:23) D(1) C(SELECT_1) Z(I)", rawpg.Query("SELECT 1 AS one"))
	c.Ask(t, "E(26000) Z(I)", use("")...)
	c.Settled(t, "I")
	shared.NeverSent(t, "skipped canary")
}
