// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package audit

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestRole: a record says who has logged in, and in which role he was then, by whatever
// way that was chosen: of what he read, wrote and was denied, beside the primary and a
// standby, and where the session has moved to.
func TestRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Spec{Standbys: 1})
	ann := w.c.AddUser(t, "ann", "mine/*", "read")
	w.super(t, func(conn *pgx.Conn) {
		cluster.Exec(t, conn, "CREATE ROLE readers; GRANT readers TO ann; CREATE ROLE strangers; GRANT strangers TO ann", pgx.QueryExecModeSimpleProtocol)
		cluster.Exec(t, conn, "SELECT vault.grant_access('readers', '*', 'read', 'create', 'update', 'verify')")
	})
	w.put(t, "role/a", "mine/a")
	var want []string
	for _, n := range w.c.Nodes {
		w.at(t, w.c.AddressDSN(n.Proxy, ann), func(conn *pgx.Conn) {
			must := func(sql string) { t.Helper(); cluster.Exec(t, conn, sql, pgx.QueryExecModeSimpleProtocol) }
			must("SELECT vault.read_secret('mine/a')")
			must("SET ROLE readers")
			must("SELECT vault.read_secret('role/a')")
			must("SELECT vault.put_secret('role/" + n.Name + "', 'x')") // at the primary
			must("SELECT vault.verify_secret('role/a', 'x')")
			must("RESET ROLE")
			must("SELECT vault.read_secret('mine/a')")
			must("BEGIN READ ONLY; SET LOCAL ROLE strangers; SELECT vault.read_secret('role/a', missing_ok => true); ROLLBACK")
			must("SELECT vault.read_secret('mine/a')")
		})
		want = append(want, "read ok mine/a ann ann", "read ok role/a ann readers", "update ok role/"+n.Name+" ann readers",
			"verify mismatch role/a ann readers", "read ok mine/a ann ann", "read denied role/a ann strangers", "read ok mine/a ann ann")
	}
	w.arrived(t, w.c.Nodes...)
	w.super(t, func(conn *pgx.Conn) {
		for i, n := range w.c.Nodes {
			_, ids := cluster.Trust(t, n.Log)
			rows, err := conn.Query(t.Context(), `SELECT concat_ws(' ', action, outcome, secret_name, actor, session_role) FROM vault.audit_log
				WHERE node_id = $1::text::uuid AND actor = 'ann' AND action <> 'login' ORDER BY seq`, ids[0])
			if err != nil {
				t.Fatal(err)
			}
			got, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err)
			}
			if want := want[7*i : 7*i+7]; !slices.Equal(got, want) {
				t.Errorf("%s has\n%q, want\n%q", n.Name, got, want)
			}
		}
		if got := cluster.Text(t, conn, `SELECT string_agg(DISTINCT concat_ws(' ', session_role, "current_role"), ', ') FROM vault.changes WHERE subject LIKE 'role/node%'`); got != "ann readers" {
			t.Errorf("vault.changes has %q", got)
		}
	})
}
