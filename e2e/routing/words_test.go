// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package routing

import (
	"slices"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// What stays at the standby by both VAULT_ROUTE_WRITES=vault and off.
var stayHere = []conversation{
	{"a read", false, []step{query("T(n:23) D(1) C(SELECT_1) Z(I)", "SELECT 1 AS n")}},
	{"an insert", false, []step{query("E(25006) Z(I)", "INSERT INTO r.t (v) VALUES ('word')"), execute("1 2 n E(25006) Z(I)", "INSERT INTO r.t (v) VALUES ($1)", "word")}},
	{"a named insert", false, []step{
		ask("1 Z(I)", rawpg.Parse("i", "INSERT INTO r.t (v) VALUES ('word')"), rawpg.Sync()),
		ask("2 E(25006) Z(I)", rawpg.Bind("", "i"), rawpg.Execute("", 0), rawpg.Sync()),
	}},
	{"a function that writes", false, []step{query("T(w:25) E(25006) Z(I)", "SELECT r.w('word')"), execute("1 2 T(w:25) E(25006) Z(I)", "SELECT r.w($1)", "word")}},
	{"a sequence", false, []step{query("T(nextval:20) E(25006) Z(I)", "SELECT nextval('r.q')")}},
	{"LISTEN", false, []step{query("E(25006) Z(I)", "LISTEN c")}},
	{"a block", false, []step{
		query("C(BEGIN) Z(T)", "BEGIN"), query("T(s:16) D(t) C(SELECT_1) Z(T)", "SELECT pg_is_in_recovery() AS s"),
		query("E(25006) Z(E)", "SELECT vault.put_secret('words/block', 'words canary')"), query("C(ROLLBACK) Z(I)", "ROLLBACK"),
	}},
}

// What goes to the primary by VAULT_ROUTE_WRITES=vault.
var vaultsOwn = []conversation{
	{"a put", true, []step{query("T(v:23) D(1) C(SELECT_1) Z(I)", "SELECT vault.put_secret('words/a', 'words canary') AS v")}},
	{"a put by the extended protocol", true, []step{execute("1 2 T(v:23) D(1) C(SELECT_1) Z(I)", "SELECT vault.put_secret($1, $2) AS v", "words/b", "words canary")}},
	{"a prepared put", true, []step{
		ask("1 t(25,25) T(v:23) Z(I)", rawpg.Parse("p", "SELECT vault.put_secret($1, $2) AS v"), rawpg.DescribeStatement("p"), rawpg.Sync()),
		query("T(s:16) D(t) C(SELECT_1) Z(I)", "SELECT pg_is_in_recovery() AS s"),
		ask("2 D(1) C(SELECT_1) Z(I)", rawpg.Bind("", "p", "words/c", "words canary"), rawpg.Execute("", 0), rawpg.Sync()),
	}},
	{"an insert behind a put, before the session goes back", true, []step{
		query("T(v:23) D(2) C(SELECT_1) Z(I)", "SELECT vault.put_secret('words/a', 'words canary') AS v"), query("C(INSERT_0_1) Z(I)", "INSERT INTO r.t (v) VALUES ('behind')"),
	}},
	{"a put beside another write", true, []step{
		query("C(INSERT_0_1) T(v:23) D(1) C(SELECT_1) Z(I)", "INSERT INTO r.t (v) VALUES ('both'); SELECT vault.put_secret('words/e', 'words canary') AS v"),
	}},
	{"another write behind a put", true, []step{
		query("T(v:23) D(2) C(SELECT_1) C(INSERT_0_1) Z(I)", "SELECT vault.put_secret('words/e', 'words canary') AS v; INSERT INTO r.t (v) VALUES ('both')"),
	}},
	{"a create", true, []step{query("T(v:23) D(1) C(SELECT_1) Z(I)", "SELECT vault.create_secret('words/d', 'automatic') AS v")}},
	{"an update", true, []step{query("T(v:2278) D C(SELECT_1) Z(I)", "SELECT vault.update_secret('words/d', description => 'x') AS v")}},
	{"a rotation", true, []step{query("T(v:23) D(2) C(SELECT_1) Z(I)", "SELECT vault.rotate_secret('words/d') AS v")}},
	{"a deletion", true, []step{query("T(v:16) D(t) C(SELECT_1) Z(I)", "SELECT vault.delete_secret('words/d') AS v")}},
}

// What VAULT_ROUTE_WRITES=off refuses beside that.
var nothing = []conversation{
	{"a put", false, []step{query("E(25006) Z(I)", "SELECT vault.put_secret('words/a', 'words canary')")}},
	{"a put by the extended protocol", false, []step{execute("1 E(25006) Z(I)", "SELECT vault.put_secret($1, $2) AS v", "words/b", "words canary")}},
	{"a prepared put", false, []step{
		ask("1 Z(I)", rawpg.Parse("p", "SELECT vault.put_secret($1, $2) AS v"), rawpg.Sync()),
		ask("E(25006) Z(I)", rawpg.Bind("", "p", "words/c", "words canary"), rawpg.Execute("", 0), rawpg.Sync()),
	}},
	{"an update", false, []step{query("T(v:2278) E(25006) Z(I)", "SELECT vault.update_secret('words/a', description => 'x') AS v")}},
	{"a rotation", false, []step{query("E(25006) Z(I)", "SELECT vault.rotate_secret('words/a')")}},
	{"a deletion", false, []step{query("T(v:16) E(25006) Z(I)", "SELECT vault.delete_secret('words/a') AS v")}},
}

// TestRouteWrites holds conversations with sessions at a standby whose node takes
// less to the primary than by default.
func TestRouteWrites(t *testing.T) {
	schema(t)
	for word, own := range map[string][]conversation{"vault": vaultsOwn, "off": nothing} {
		node := shared.Nodes[1].StartLoose(t, map[string]string{"VAULT_ROUTE_WRITES": word, "VAULT_MOVE_BACK_AFTER": "0s"}) // 0: never, or where it is depends on speed
		for _, c := range slices.Concat(stayHere, own) {
			t.Run(word+" "+c.name, func(t *testing.T) {
				s := dial(t, shared.AddressDSN(node.Proxy, shared.User))
				for _, st := range c.steps {
					s.Ask(t, st.want, st.msgs...)
				}
				where(t, s, c.primary)
				s.Settled(t, "I")
			})
		}
	}
	if got := rows(t, "word"); got != "0" {
		t.Errorf("%s rows came of what was refused", got)
	}
	shared.NeverSent(t, "words canary")
}
