// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// asNode is what a node's connection of the server's has and no other one.
const asNode = " hyperion_vault.client_addr=''"

// sealed makes pg_temp.sealed: a record as a node's, of nothing.
const sealed = `CREATE FUNCTION pg_temp.field(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT int4send(length($1)) || $1 $$;
	CREATE FUNCTION pg_temp.sealed(name text, id uuid, version int) RETURNS text LANGUAGE sql AS $$
	SELECT 'hv1.' || translate(encode(pg_temp.field('\x01') || pg_temp.field(uuid_send(m.vault_id)) || pg_temp.field(uuid_send(id)) ||
		pg_temp.field(int4send(version)) || pg_temp.field(convert_to(name, 'UTF8')) || pg_temp.field('\x01') || pg_temp.field('key') ||
		pg_temp.field('\xdddd') || pg_temp.field(decode(repeat('aa', 24), 'hex')) || pg_temp.field(decode(repeat('cc', 49), 'hex')) ||
		pg_temp.field(''), 'base64'), E'+/=\n', '-_') FROM vault.meta m $$`

var didNumber = regexp.MustCompile(`(did=[a-z_]+_ok_-_\d+_)[1-9]\d*`)

// did sends a query and returns the answers without rows, numbers of changes as N.
func did(t *testing.T, conn *rawpg.Conn, sql string) string {
	t.Helper()
	if err := conn.Send(rawpg.Query(sql)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range conn.Answers(t) {
		if m[0] != 'T' && m[0] != 'D' && m[0] != 'N' {
			got = append(got, strings.ReplaceAll(didNumber.ReplaceAllString(m, "${1}N"), "hyperion_vault.did=", ""))
		}
	}
	return strings.Join(got, " ")
}

// TestDid: the server tells a node what was done in its session, in front of the
// answer, and what was refused.
func TestDid(t *testing.T) {
	clerk := shared.AddUser(t, "clerk", "did/*", "read,list")
	owner, user := dial(t, shared.SuperDSN(0)+asNode), dial(t, shared.DirectDSN(0, clerk)+asNode)
	for _, sql := range strings.SplitAfter(sealed, "$$;") {
		did(t, owner, sql)
	}
	admin := super(t)
	cluster.Exec(t, admin, sealed)
	made := func(name string) string {
		return cluster.Text(t, admin, "SELECT quote_literal(pg_temp.sealed($1, gen_random_uuid(), 5))", name)
	}
	write := func(action string) string {
		return "SELECT vault.node_write(pg_temp.sealed('did/a', secret_id, version), '" + action + "', 'automatic', 'x') FROM vault.node_next_version('did/a', '" + action + "', 'x')"
	}
	for _, c := range []struct {
		conn *rawpg.Conn
		sql  string
		want string
	}{
		{owner, write("create"), "S(create_ok_-_1_N_did/a) C(SELECT_1)"},
		{owner, write("update"), "S(update_ok_-_2_N_did/a) C(SELECT_1)"},
		{owner, write("rotate"), "S(rotate_ok_-_3_N_did/a) C(SELECT_1)"},
		{owner, "SELECT vault.update_secret('did/a', description => 'x')", "S(update_ok_-_0_N_did/a) C(SELECT_1)"},
		{owner, "SELECT vault.update_secret('did/none', description => 'x')", "S(update_failed_missing_0_0_did/none) E(P0002)"},
		{owner, "SELECT vault.grant_access('" + clerk + "', 'did/own/*', 'read', 'list')", "S(grant_ok_-_0_N_" + clerk + "_did/own/*) C(SELECT_1)"},
		{owner, "SELECT vault.grant_access('" + clerk + "', 'did/own/*', 'read')", "C(SELECT_1)"},
		{owner, "SELECT vault.revoke_access('" + clerk + "', 'did/own/*')", "S(revoke_ok_-_0_N_" + clerk + "_did/own/*) C(SELECT_1)"},
		{owner, "SELECT vault.add_token('did token', 'admin', sha256('did'))", "S(token_create_ok_-_0_N_did_token) C(SELECT_1)"},
		{owner, `SELECT vault.rest_admin(sha256('did'), 'create_role', 'did rôle', '{"permissions":[]}')`, "S(role_create_ok_-_0_N_did_rôle) C(SELECT_1)"},
		{owner, "SELECT vault.rest_admin(sha256('did'), 'delete_role', 'did rôle', '{}')", "S(role_delete_ok_-_0_N_did_rôle) C(SELECT_1)"},
		// Told, too, though a node has recorded what it reserved itself: it knows by the number.
		{owner, "SELECT vault.put_secret('did/a', pg_temp.sealed('did/a', secret_id, first)) FROM vault.next_version('did/a', 1, 'put')", "S(update_ok_-_4_N_did/a) C(SELECT_1)"},
		{owner, "SELECT cardinality(records) FROM vault.verify_begin('did/a')", "S(verify_ok_-_0_0_did/a) C(SELECT_1)"},
		// Told where it happens, also if it is taken back or the error is caught.
		{owner, "BEGIN; SELECT vault.delete_secret('did/a'); ROLLBACK", "C(BEGIN) S(delete_ok_-_4_N_did/a) C(SELECT_1) C(ROLLBACK)"},
		{owner, "DO $$ BEGIN PERFORM vault.delete_secret('did/a'); RAISE EXCEPTION 'x'; EXCEPTION WHEN OTHERS THEN END $$", "S(delete_ok_-_4_N_did/a) C(DO)"},

		{user, "SELECT vault.read_secret('did/a')", "C(SELECT_1)"},
		{user, "SELECT vault.read_secret('did/none')", "S(read_failed_missing_0_0_did/none) E(P0002)"},
		{user, "SELECT vault.read_secret('did/a', 99)", "S(read_failed_missing_0_0_did/a) E(P0002)"},
		{user, "SELECT vault.read_secret('else/a')", "S(read_denied_denied_0_0_else/a) E(P0002)"},
		{user, "SELECT vault.read_secret(n, missing_ok => true) FROM unnest('{did/none,else/a}'::text[]) n", "S(read_failed_missing_0_0_did/none) S(read_denied_denied_0_0_else/a) C(SELECT_2)"},
		{user, "SELECT vault.list_secrets('did/')", "S(list_ok_-_0_0_did/) C(SELECT_1)"},
		{user, "SELECT vault.list_secrets()", "S(list_ok_-_0_0_) C(SELECT_1)"},
		{user, "SELECT vault.list_secrets('hunter2 is no name')", "S(list_ok_-_0_0_) C(SELECT_0)"},
		{user, "SELECT vault.list_secrets(repeat('x', 1000))", "S(list_ok_-_0_0_) C(SELECT_0)"},
		{user, "SELECT version FROM vault.list_versions('did/a') LIMIT 1", "S(list_ok_-_0_0_did/a) C(SELECT_1)"},
		{user, "SELECT vault.list_versions('did/none')", "S(list_failed_missing_0_0_did/none) E(P0002)"},
		{user, "SELECT vault.list_versions('else/a')", "S(list_denied_denied_0_0_else/a) E(P0002)"},
		{user, "SELECT vault.verify_begin('did/a')", "S(verify_denied_denied_0_0_did/a) E(P0002)"},
		{user, "SELECT vault.next_version('did/a', 1, 'put')", "S(update_denied_denied_0_0_did/a) E(42501)"},
		{user, "SELECT vault.next_version('did/b', 1, 'create')", "S(create_denied_denied_0_0_did/b) E(42501)"},
		{user, "SELECT vault.next_version('did/a', 1, 'rotate')", "S(rotate_denied_denied_0_0_did/a) E(42501)"},
		{owner, "SELECT vault.next_version('did/none', 1, 'rotate')", "S(rotate_failed_missing_0_0_did/none) E(P0002)"},
		// Nor with a record of one's own making, whether or not there is such a secret.
		{user, "SELECT vault.put_secret('did/a', " + made("did/a") + ")", "S(update_denied_denied_0_0_did/a) E(42501)"},
		{user, "SELECT vault.put_secret('did/none', " + made("did/none") + ")", "S(update_denied_denied_0_0_did/none) E(42501)"},
		{user, "SELECT vault.create_secret('did/a', 'manual', " + made("did/a") + ")", "S(create_denied_denied_0_0_did/a) E(42501)"},
		{user, "SELECT vault.rotate_secret('did/none', " + made("did/none") + ")", "S(rotate_denied_denied_0_0_did/none) E(42501)"},
		{user, "SELECT vault.update_secret('did/a', description => 'x')", "S(update_denied_denied_0_0_did/a) E(42501)"},
		{user, "SELECT vault.delete_secret('did/a')", "S(delete_denied_denied_0_0_did/a) E(42501)"},
		{user, "SELECT vault.grant_access('" + clerk + "', 'did/*', '*')", "S(grant_denied_denied_0_0_" + clerk + "_did/*) E(42501)"},
		{user, "SELECT vault.revoke_access('" + clerk + "', 'hunter2 is no pattern')", "S(revoke_denied_denied_0_0_) E(42501)"},
		// A value that no node has sealed; what is no name may be one.
		{user, "SELECT vault.put_secret('did/a', 'hunter2')", "S(update_failed_unsealed_0_0_did/a) E(0A000)"},
		{user, "SELECT vault.put_secret('hunter2 is no name', 'hunter2')", "S(update_failed_unsealed_0_0_) E(0A000)"},
		{user, "SELECT vault.create_secret('did/b', 'manual', 'hunter2')", "S(create_failed_unsealed_0_0_did/b) E(0A000)"},
		{user, "SELECT vault.rotate_secret('did/a')", "S(rotate_failed_unsealed_0_0_did/a) E(0A000)"},
		{user, "SELECT vault.verify_secret('did/a', 'hunter2')", "S(verify_failed_unsealed_0_0_did/a) E(0A000)"},

		{owner, "SELECT vault.delete_secret('did/a'), vault.delete_secret('did/a')", "S(delete_ok_-_4_N_did/a) S(delete_failed_missing_0_0_did/a) C(SELECT_1)"},
	} {
		if got := did(t, c.conn, c.sql); got != c.want+" Z(I)" {
			t.Errorf("%s\ngot  %s\nwant %s Z(I)", c.sql, got, c.want)
		}
	}
	cluster.Exec(t, super(t), "DELETE FROM vault.admin_tokens WHERE name = 'did token'")
}

// TestDidRole: the server tells a node in which role it is asked, if that is another one
// than before, in front of everything else.
func TestDidRole(t *testing.T) {
	clerk, chief := shared.AddUser(t, "roleclerk", "did/*", "read"), shared.AddUser(t, "chief", "did/*", "read")
	cluster.Exec(t, super(t), "GRANT "+chief+" TO "+clerk)
	told := func(role string) string {
		return "S(hyperion_vault.role=" + role + ") S(hyperion_vault.bypasses=off) "
	}
	conn, nobody := dial(t, shared.DirectDSN(0, clerk)+asNode), dial(t, shared.DirectDSN(0, clerk))
	const read, missing = "SELECT vault.read_secret('did/none', missing_ok => true)", "S(read_failed_missing_0_0_did/none) C(SELECT_1)"
	for _, c := range []struct{ sql, want string }{
		{read, missing},
		{"SET ROLE " + chief, "C(SET)"},
		{read, told(chief) + missing},
		{read, missing},
		{"SELECT * FROM vault.list_secrets('x')", "S(list_ok_-_0_0_x) C(SELECT_0)"},
		{"RESET ROLE; " + read, "C(RESET) " + told(clerk) + missing},
		{"BEGIN; SET LOCAL ROLE " + chief + "; " + read + "; ROLLBACK", "C(BEGIN) C(SET) " + told(chief) + missing + " C(ROLLBACK)"},
		{"SELECT vault.list_secrets('x')", told(clerk) + "S(list_ok_-_0_0_x) C(SELECT_0)"},
	} {
		if got := did(t, conn, c.sql); got != c.want+" Z(I)" {
			t.Errorf("%s\ngot  %s\nwant %s Z(I)", c.sql, got, c.want)
		}
	}
	if got := did(t, nobody, "SET ROLE "+chief+"; "+read); got != "C(SET) C(SELECT_1) Z(I)" {
		t.Errorf("without a node: got %s", got)
	}
}

// TestDidNumber: it is the row's.
func TestDidNumber(t *testing.T) {
	clerk := shared.AddUser(t, "clerk2")
	conn := dial(t, shared.SuperDSN(0)+asNode)
	if err := conn.Send(rawpg.Query("SELECT vault.grant_access('" + clerk + "', 'did/number')")); err != nil {
		t.Fatal(err)
	}
	answers := strings.Join(conn.Answers(t), " ")
	want := cluster.Text(t, super(t), "SELECT format('S(hyperion_vault.did=grant_ok_-_0_%s_%s)', id, replace(subject, ' ', '_')) FROM vault.changes WHERE subject LIKE '%did/number' ORDER BY id DESC LIMIT 1")
	if !strings.Contains(answers, want) {
		t.Errorf("got %s, want %s in it", answers, want)
	}
}

// TestDidFlood: who asks for what he may not in a loop is told of a thousand times
// a statement; what is changed is always told.
func TestDidFlood(t *testing.T) {
	clerk := shared.AddUser(t, "clerk3")
	conn := dial(t, shared.DirectDSN(0, clerk)+asNode)
	flood := "SELECT count(vault.read_secret('did/' || i, missing_ok => true)) FROM generate_series(1, 3000) i"
	for range 2 {
		got := strings.Fields(did(t, conn, flood))
		told := len(got) - 2 // C and Z
		if last := got[told-1]; told != 1001 || got[999] != "S(read_denied_denied_0_0_did/1000)" || last != "S(read_denied_and_more_0_0_did/1001)" {
			t.Fatalf("got %d reports, the last %s", told, last)
		}
	}
	// Nor does a list with nothing in it take a right.
	none := strings.Fields(did(t, conn, "SELECT count(*) FROM generate_series(1, 3000) i, LATERAL vault.list_secrets('did/none/' || i)"))
	if told := len(none) - 2; told != 1001 || none[999] != "S(list_ok_-_0_0_did/none/1000)" || none[1000] != "S(list_ok_and_more_0_0_did/none/1001)" {
		t.Fatalf("got %d reports of empty lists", told)
	}
	// What is behind a flood is told of, in another statement or in another way.
	got := did(t, conn, flood+"; SELECT vault.read_secret('did/next', missing_ok => true); SELECT vault.list_secrets('did/')")
	for _, want := range []string{"S(read_denied_denied_0_0_did/next)", "S(list_ok_-_0_0_did/)"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not told behind a flood", want)
		}
	}
	owner := dial(t, shared.SuperDSN(0)+asNode)
	change := fmt.Sprintf("SELECT vault.grant_access('%s', 'did/flood/' || i) FROM generate_series(1, 1500) i", clerk)
	if got := strings.Count(did(t, owner, change), "S(grant_ok_"); got != 1500 {
		t.Errorf("got %d reports of changes, want 1500", got)
	}
	cluster.Exec(t, super(t), "DELETE FROM vault.grants WHERE pattern LIKE 'did/flood/%'")
}

// TestDidNobodyElse: a session that no node has opened hears nothing. In a parallel
// plan it is the leader that tells.
func TestDidNobodyElse(t *testing.T) {
	clerk := shared.AddUser(t, "clerk4", "did/*", "*")
	conn := dial(t, shared.DirectDSN(0, clerk))
	for _, sql := range []string{"SELECT vault.delete_secret('did/x')", "SELECT count(*) FROM vault.list_secrets('did/')"} {
		if got := did(t, conn, sql); got != "C(SELECT_1) Z(I)" {
			t.Errorf("%s: got %s", sql, got)
		}
	}
	if got := did(t, conn, "SET hyperion_vault.client_addr = '10.0.0.1'"); got != "E(55P02) Z(I)" {
		t.Errorf("SET: got %s", got)
	}
	conn = dial(t, shared.DirectDSN(0, clerk)+" hyperion_vault.client_addr=10.0.0.1")
	if got := did(t, conn, "SELECT vault.delete_secret('did/x')"); got != "S(delete_failed_missing_0_0_did/x) C(SELECT_1) Z(I)" {
		t.Errorf("with an address: got %s", got)
	}
	conn = dial(t, shared.DirectDSN(0, clerk)+asNode)
	did(t, conn, "SET force_parallel_mode = on")
	if got := did(t, conn, "SELECT n, vault.read_secret('did/x', missing_ok => true) FROM generate_series(1, 2) n"); got != "S(read_failed_missing_0_0_did/x) S(read_failed_missing_0_0_did/x) C(SELECT_2) Z(I)" {
		t.Errorf("parallel: got %s", got)
	}
}

// TestDidBeforeCommit: what a block has committed is told while it goes on.
func TestDidBeforeCommit(t *testing.T) {
	clerk := shared.AddUser(t, "clerk5")
	conn, other := dial(t, shared.SuperDSN(0)+asNode), super(t)
	cluster.Exec(t, other, "SELECT pg_advisory_lock(4711)") // the block waits until it is told to go on
	sql := fmt.Sprintf("DO $$ BEGIN PERFORM vault.grant_access('%s', 'did/early'); COMMIT; PERFORM pg_advisory_xact_lock(4711); END $$", clerk)
	if err := conn.Send(rawpg.Query(sql)); err != nil {
		t.Fatal(err)
	}
	if m, err := conn.Receive(); err != nil || !strings.Contains(m.String(), "grant_ok_") {
		t.Fatalf("the block has committed, and %v came: %v", m, err)
	}
	cluster.Exec(t, other, "SELECT pg_advisory_unlock(4711)")
	conn.Answers(t)
	cluster.Exec(t, other, "DELETE FROM vault.grants WHERE pattern = 'did/early'")
}
