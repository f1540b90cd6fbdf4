// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e && matrix

package matrix

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// joined is what a node puts in front of a Query that joins a lock's transaction.
const joined = "SET LOCAL hyperion_vault.joined = on; "

// TestLoneQuery has a Query behind an Execute that was flushed and not synced, as a
// node sends a put: by itself it is lost on some majors, behind a node's words on none.
func TestLoneQuery(t *testing.T) {
	check(t, "a lone Query behind a Flush, as it is")
	super := shared.Connect(t, shared.SuperDSN(0))
	cluster.Exec(t, super, "CREATE TABLE lone (n int)")
	// kept sends a Query behind the lock, and says whether it had the end that a
	// client waits for, and whether its row is there for others.
	kept := func(name, prefix string) (state, rows string) {
		c := dial(t, shared.SuperDSN(0))
		if err := c.Send(rawpg.Parse("", "SELECT vault.next_version($1, 1, 'put')"), rawpg.Bind("", "", name), rawpg.Execute("", 0), rawpg.Flush()); err != nil {
			t.Fatal(err)
		}
		for _, want := range []byte{'1', '2', 'D', 'C'} {
			if m, err := c.Receive(); err != nil || m.Type != want {
				t.Fatalf("the lock: got %v, %v, want %q", m, err, want)
			}
		}
		if err := c.Send(rawpg.Query(prefix + "INSERT INTO lone VALUES (1)")); err != nil {
			t.Fatal(err)
		}
		got := c.Answers(t)
		if err := c.Send(rawpg.Sync()); err != nil {
			t.Fatal(err)
		}
		c.Answers(t)
		_ = c.Close() // as it is
		rows = cluster.Text(t, super, "SELECT count(*)::text FROM lone")
		cluster.Exec(t, super, "TRUNCATE lone")
		return got[len(got)-1], rows
	}
	if state, rows := kept("lone/joined", joined); state != "Z(I)" || rows != "1" {
		t.Errorf("behind %q: got %s, %s rows, want Z(I), 1", joined, state, rows)
	}
	switch state, rows := kept("lone/bare", ""); {
	case state == "Z(I)" && rows == "1":
		seen(t, "commits")
	case state == "Z(T)" && rows == "0":
		seen(t, "is lost, without an error")
	default:
		t.Errorf("bare: got %s, %s rows", state, rows)
	}
}

// TestPutsStay puts secrets in each form of the protocol: they are there for others
// when their client has its ReadyForQuery, and an error of the commit comes in place
// of success.
func TestPutsStay(t *testing.T) {
	check(t, "puts as lone statements, in blocks, pipelines and several a message stay")
	super := shared.Connect(t, shared.SuperDSN(0))
	cluster.Exec(t, shared.Connect(t, shared.DSN(0, shared.User)), "CREATE TABLE deferred (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
	for i, n := range shared.Nodes {
		t.Run(string(n.Role), func(t *testing.T) {
			c := dial(t, shared.DSN(i, shared.User))
			name := "stay/" + string(n.Role)
			versions := func(want string) {
				t.Helper()
				if got := cluster.Text(t, super, "SELECT coalesce(max(current_version), 0)::text FROM vault.secrets WHERE name = $1", name); got != want {
					t.Errorf("versions: got %s, want %s", got, want)
				}
			}
			put := "SELECT vault.put_secret('" + name + "', 'stays')"
			ask := func(want, sql string) { t.Helper(); c.Ask(t, want, rawpg.Query(sql)) }
			row := func(version string) string { return "T(put_secret:23) D(" + version + ") C(SELECT_1) " }
			ask(row("1")+"Z(I)", put)
			versions("1")
			ask(row("2")+row("3")+"Z(I)", put+";"+put)
			versions("3")
			ask("C(BEGIN) Z(T)", "BEGIN")
			ask(row("4")+"Z(T)", put)
			versions("3")
			ask("C(COMMIT) Z(I)", "COMMIT")
			versions("4")
			c.Ask(t, "1 2 D(5) C(SELECT_1) 2 D(6) C(SELECT_1) Z(I)", rawpg.Parse("p", "SELECT vault.put_secret($1, $2)"),
				rawpg.Bind("", "p", name, "stays"), rawpg.Execute("", 0), rawpg.Bind("", "p", name, "stays"), rawpg.Execute("", 0), rawpg.Sync())
			versions("6")
			// A pipeline that a Query ends.
			c.Ask(t, "2 D(7) C(SELECT_1) "+row("8")+"Z(I)", rawpg.Bind("", "p", name, "stays"), rawpg.Execute("", 0), rawpg.Query(put))
			versions("8")
			ask("E(23505) Z(I)", "INSERT INTO deferred SELECT 1 FROM generate_series(1, 2), (SELECT vault.put_secret('"+name+"', 'stays')) p")
			versions("8")
			c.Settled(t, "I")
		})
	}
}
