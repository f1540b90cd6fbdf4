// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// sealing makes pg_temp.sealed: a record as a node's, of nothing.
const sealing = `CREATE FUNCTION pg_temp.field(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT int4send(length($1)) || $1 $$;
	CREATE FUNCTION pg_temp.sealed(name text, id uuid, version int) RETURNS text LANGUAGE sql AS $$
	SELECT 'hv1.' || translate(encode(pg_temp.field('\x01') || pg_temp.field(uuid_send(m.vault_id)) || pg_temp.field(uuid_send(id)) ||
		pg_temp.field(int4send(version)) || pg_temp.field(convert_to(name, 'UTF8')) || pg_temp.field('\x01') || pg_temp.field('key') ||
		pg_temp.field('\xdddd') || pg_temp.field(decode(repeat('aa', 24), 'hex')) || pg_temp.field(decode(repeat('cc', 49), 'hex')) ||
		pg_temp.field(''), 'base64'), E'+/=\n', '-_') FROM vault.meta m $$`

// directCalls are what changes something, and what of it audit verify must show. An
// empty one: nothing.
func directCalls(user string) [][2]string {
	role := "'" + user + "'"
	return [][2]string{
		{"SELECT vault.create_secret('d/a', 'manual', pg_temp.sealed('d/a', secret_id, first)) FROM vault.next_version('d/a', 1, 'create')", `"create" of "d/a"`},
		{"SELECT vault.put_secret('d/a', pg_temp.sealed('d/a', secret_id, first)) FROM vault.next_version('d/a', 1, 'put')", `"update" of "d/a"`},
		{"SELECT vault.put_secret('d/new', pg_temp.sealed('d/new', secret_id, first)) FROM vault.next_version('d/new', 1, 'put')", `"create" of "d/new"`},
		{"SELECT vault.create_secret('d/b', 'automatic', pg_temp.sealed('d/b', secret_id, first)) FROM vault.next_version('d/b', 1, 'create')", `"create" of "d/b"`},
		{"SELECT vault.rotate_secret('d/b', pg_temp.sealed('d/b', secret_id, first)) FROM vault.next_version('d/b', 1, 'rotate')", `"rotate" of "d/b"`},
		{"SELECT vault.update_secret('d/a', description => 'x')", `"update" of "d/a"`},
		{"SELECT vault.delete_secret('d/a')", `"delete" of "d/a"`},
		{"SELECT vault.delete_secret('d/a')", ""},

		{"SELECT vault.grant_access(" + role + ", 'd/*', 'read')", `"grant" of "` + user + ` d/*"`},
		{"SELECT vault.grant_access(" + role + ", 'd/*', 'read')", ""},
		{"UPDATE vault.grants SET role_oid = 1 WHERE pattern = 'd/*'", ""},
		{"SELECT vault.adopt_grants()", `"grant" of "1 adopted"`},
		{"SELECT vault.revoke_access(" + role + ", 'd/*')", `"revoke" of "` + user + ` d/*"`},

		{"SELECT vault.node_write(pg_temp.sealed('d/n', secret_id, version), 'create', 'automatic', 'x') FROM vault.node_next_version('d/n', 'create', 'x')", `"create" of "d/n"`},
		{"SELECT vault.node_write(pg_temp.sealed('d/n', secret_id, version), 'update', NULL, 'x') FROM vault.node_next_version('d/n', 'update', 'x')", `"update" of "d/n"`},
		{"SELECT vault.node_write(pg_temp.sealed('d/n', secret_id, version), 'rotate', NULL, 'x') FROM vault.node_next_version('d/n', 'rotate', 'x')", `"rotate" of "d/n"`},
		{"SELECT vault.node_update('d/n', '1 day', NULL, NULL, NULL, 'x')", `"update" of "d/n"`},
		{"SELECT vault.node_reschedule('d/n', now() - interval '1 s', 'x')", `"update" of "d/n"`},
		{"SELECT vault.enqueue_due_rotations()", ""},
		{"SELECT vault.complete_rotation(j.job, j.token, j.current_version, pg_temp.sealed(j.name, r.secret_id, r.version)) FROM vault.claim_rotation('n', 1) j, vault.node_next_version(j.name, 'rotate', 'x') r", `"rotate" of "d/n"`},
		{"SELECT vault.node_delete('d/n', 'x')", `"delete" of "d/n"`},

		{"DELETE FROM vault.admin_tokens", ""},
		{"SELECT vault.bootstrap_token(sha256('boot'))", `"token_create" of "bootstrap"`},
		{"SELECT vault.add_token('by hand', NULL, sha256('hand'))", `"token_create" of "by hand"`},
		{`SELECT vault.rest_admin(sha256('boot'), 'create_role', 'reader', '{"permissions": []}')`, `"role_create" of "reader"`},
		{`SELECT vault.rest_admin(sha256('boot'), 'set_permissions', 'reader', '{"permissions": []}')`, `"role_update" of "reader"`},
		{"SELECT vault.rest_admin(sha256('boot'), 'create_token', 'a token', jsonb_build_object('role', 'reader', 'sha256', encode(sha256('tok'), 'hex')))", `"token_create" of "a token"`},
		{"SELECT vault.rest_admin(sha256('boot'), 'revoke_token', 'a token', '{}')", `"token_revoke" of "a token"`},
		{"SELECT vault.rest_admin(sha256('boot'), 'delete_role', 'reader', '{}')", `"role_delete" of "reader"`},
	}
}

// changeNothing are the volatile functions that change no secret, right, role or token.
// What expire_grace_versions deletes nobody could read any more.
var changeNothing = []string{
	"audit_append", "audit_store", "check_rest_admin", "expire_grace_versions", "fail", "fail_rotation", "grant_service_role", "hba_rules", "lockout",
	"log_change", "login_verifier", "prune_audit", "replayed", "rest_roles", "rest_tokens", "session_state", "status", "tick", "token_read", "token_role", "verify_begin", "verify_secret",
}

// TestDirectChanges: each function that changes something leaves one row for each change
// when it is called at the server's own port, and audit verify shows it.
func TestDirectChanges(t *testing.T) {
	a := startAudited(t)
	a.append(t, 0, 1, 0)
	a.append(t, 1, 1, 0)
	a.exec(t, sealing)
	calls := directCalls(a.cluster.User)
	var want []string
	last := a.lastChange(t)
	for _, c := range calls {
		a.exec(t, c[0])
		now := a.lastChange(t)
		switch {
		case c[1] != "" && now == last+1:
			want = append(want, fmt.Sprintf("FOUND change %d: not through a node: %s by %q", now, c[1], "postgres"))
		case c[1] != "" || now != last:
			t.Errorf("%s: changes %d to %d, want %q", c[0], last+1, now, c[1])
		}
		last = now
	}
	code, said := a.verify(t, "--grace", "0s")
	var got []string
	for line := range strings.Lines(said) {
		if what, _, _ := strings.Cut(line, " at "); strings.HasPrefix(line, "FOUND ") {
			got = append(got, what)
		}
	}
	if code != exitFault || !slices.Equal(got, want) {
		t.Errorf("exit code %d: %s\nwant %s", code, said, strings.Join(want, "\n"))
	}
	a.checkAllCalled(t, calls)
	a.checkAllHeld(t, calls)
}

// lastChange is the number of the last row.
func (a *auditedServer) lastChange(t *testing.T) (id int64) {
	t.Helper()
	if err := a.conn.QueryRow(t.Context(), "SELECT coalesce(max(id), 0) FROM vault.changes").Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}

var calledFunction = regexp.MustCompile(`vault\.(\w+)\(`)

// checkAllCalled: no function is left out that could change something.
func (a *auditedServer) checkAllCalled(t *testing.T, calls [][2]string) {
	t.Helper()
	known := slices.Clone(changeNothing)
	for _, c := range calls {
		for _, name := range calledFunction.FindAllStringSubmatch(c[0], -1) {
			known = append(known, name[1])
		}
	}
	rows, err := a.conn.Query(t.Context(), `SELECT DISTINCT proname::text FROM pg_catalog.pg_proc WHERE pronamespace = 'vault'::regnamespace
		AND provolatile = 'v' AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)`)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			t.Errorf("vault.%s is not looked at", name)
		}
	}
	for _, name := range changeNothing {
		if !slices.Contains(names, name) {
			t.Errorf("there is no vault.%s", name)
		}
	}
}

// checkAllHeld: a node knows of each function that has changed something that it does, and
// so sends none while it can write no record.
func (a *auditedServer) checkAllHeld(t *testing.T, calls [][2]string) {
	t.Helper()
	analyzer := rewrite.NewAnalyzer(rewrite.Config{})
	held := 0
	for _, c := range calls {
		if c[1] == "" {
			continue
		}
		for _, name := range calledFunction.FindAllStringSubmatch(c[0], -1) {
			var args string
			if err := a.conn.QueryRow(t.Context(), `SELECT coalesce(string_agg(proargnames[i] || ' => $' || i, ', '), '') FROM pg_catalog.pg_proc,
				generate_series(1, pronargs) i WHERE pronamespace = 'vault'::regnamespace AND proname = $1`, name[1]).Scan(&args); err != nil {
				t.Fatal(err)
			}
			plan, refusal := analyzer.Analyze("SELECT vault."+name[1]+"("+args+")", rewrite.Options{Extended: true, StdStrings: true, Settled: true, Encoding: "UTF8"})
			if refusal != nil || plan == nil || !plan.Writes {
				t.Errorf("vault.%s(%s) changes something: got %+v, %v", name[1], args, plan, refusal)
			}
			held++
		}
	}
	if held < 20 {
		t.Errorf("only %d calls were looked at", held)
	}
}
