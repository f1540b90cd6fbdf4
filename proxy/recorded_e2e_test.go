// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/envelope/localkms"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// auditedNode is a node whose records a test sees.
func auditedNode(t *testing.T) (*testNode, *testSink) {
	t.Helper()
	master := make([]byte, 32)
	rand.Read(master)
	kms, err := localkms.New(master)
	if err != nil {
		t.Fatal(err)
	}
	sink := &testSink{}
	n := nodeWith(t, kms, kms.KeyID(), func(c *vault.Config) {
		c.Audit, c.Logins, c.PrimaryWait = sink, vault.LoginsAll, 10*time.Second
		c.RESTAllowedIPs = c.AllowedIPs
	})
	watching, stop := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() { n.core.Watch(watching); close(watched) }()
	t.Cleanup(func() { stop(); <-watched })
	n.exec(t, "ALTER SYSTEM SET hyperion_vault.proxy_login = 'all'")
	n.exec(t, "SELECT pg_reload_conf()")
	n.exec(t, "CREATE ROLE nobody LOGIN PASSWORD 'nobody'")
	return n, sink
}

// exec runs what no node sees.
func (n *testNode) exec(t *testing.T, sql string) {
	t.Helper()
	if _, err := n.super.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func (n *testNode) connect(t *testing.T, user, password string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), n.dsn(user, password))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) }) // nothing is pending
	return conn
}

// changes are the numbers of the server's rows, from a place on.
func (n *testNode) changes(t *testing.T, behind int64) (ids []int64) {
	t.Helper()
	rows, err := n.super.Query(t.Context(), "SELECT id FROM vault.changes WHERE id > $1 ORDER BY 1", behind)
	if err == nil {
		ids, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	}
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// takeChanges is take, and the numbers in it.
func (s *testSink) takeChanges() (words []string, ids []int64) {
	s.mu.Lock()
	for _, b := range s.buffers {
		for i := range b {
			if b[i].Change != 0 {
				ids = append(ids, b[i].Change)
			}
		}
	}
	s.mu.Unlock()
	words, _ = s.take()
	slices.Sort(ids)
	return words, ids
}

// sqlCase is a statement, and its records.
type sqlCase struct {
	as   *pgx.Conn
	sql  string
	args []any
	want []string
}

// records runs statements, compares what each has left and in whose name, and that each of the server's
// changes is named.
func (n *testNode) records(t *testing.T, sink *testSink, cases []sqlCase) {
	t.Helper()
	sink.take()
	last := slices.Max(append(n.changes(t, 0), 0))
	for _, tt := range cases {
		args := tt.args
		if args == nil {
			args = []any{pgx.QueryExecModeSimpleProtocol}
		}
		_, err := tt.as.Exec(t.Context(), tt.sql, args...)
		user := tt.as.Config().User
		sink.checkWhose(t, tt.sql, vault.Actor{Name: user, Role: user, Via: vault.ViaSQL, Addr: home, Database: n.Database})
		got, ids := sink.takeChanges()
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s (%v): recorded\n%q, want\n%q", tt.sql, err, got, tt.want)
		}
		if rows := n.changes(t, last); !slices.Equal(ids, rows) {
			t.Errorf("%s: the records name changes %v, the server has %v", tt.sql, ids, rows)
		}
		if len(ids) > 0 {
			last = ids[len(ids)-1]
		}
	}
}

// Each operation by SQL leaves exactly the records that are here, and each row of
// vault.changes is named by one.
func TestRecordsOfSQL(t *testing.T) {
	n, sink := auditedNode(t)
	app, super := n.connect(t, n.User, n.Password), n.connect(t, n.Superuser, n.SuperuserPassword)
	n.exec(t, "CREATE TABLE names AS SELECT 's/a'::text AS name UNION SELECT 's/c'")
	n.exec(t, "CREATE VIEW shown AS SELECT vault.read_secret('s/a') AS value")
	n.exec(t, "GRANT SELECT ON names, shown TO PUBLIC")
	n.records(t, sink, []sqlCase{
		{app, "SELECT vault.put_secret('s/a', 'one')", nil, []string{"update ok s/a v1 change direct statement"}},
		{app, "SELECT vault.put_secret($1, $2)", []any{"s/a", "two"}, []string{"update ok s/a v2 change direct statement"}},
		{
			app, "SELECT vault.put_secret('s/a', 'three'), vault.put_secret('s/a', 'four')", nil,
			[]string{"update ok s/a v3 change direct statement", "update ok s/a v4 change direct statement"},
		},
		{app, "SELECT vault.create_secret('s/c', 'automatic')", nil, []string{"create ok s/c v1 change direct statement"}},
		{app, "SELECT vault.rotate_secret('s/c')", nil, []string{"rotate ok s/c v2 change direct statement"}},
		{app, "SELECT vault.read_secret('s/a')", nil, []string{"read ok s/a v4 direct statement"}},
		{app, "SELECT vault.read_secret($1)", []any{"s/a"}, []string{"read ok s/a v4 direct statement"}},
		{app, "SELECT vault.read_secret(name) FROM names ORDER BY name", nil, []string{"read ok s/a v4 direct statement", "read ok s/c v2 direct statement"}},
		{app, "SELECT value FROM shown", nil, []string{"read ok s/a v4"}},
		{app, "SELECT vault.read_secret('s/none')", nil, []string{"read failed (missing) s/none direct statement"}},
		{app, "SELECT vault.verify_secret('s/a', 'four')", nil, []string{"verify ok s/a v4 direct statement"}},
		{app, "SELECT vault.verify_secret('s/a', $1)", []any{"five"}, []string{"verify mismatch s/a direct statement"}},
		{app, "SELECT name FROM vault.list_secrets('s/')", nil, []string{"list ok s/ direct statement"}},
		{app, "SELECT version FROM vault.list_versions('s/a')", nil, []string{"list ok s/a direct statement"}},
		{app, "SELECT vault.update_secret('s/c', description => 'x')", nil, []string{"update ok s/c change direct statement"}},
		{super, "SELECT vault.grant_access('nobody', 's/own/*', 'read')", nil, []string{"grant ok nobody s/own/* change direct statement"}},
		{super, "SELECT vault.grant_access('nobody', 's/own/*', 'read')", nil, nil}, // nothing is changed
		{super, "SELECT vault.revoke_access('nobody', 's/own/*')", nil, []string{"revoke ok nobody s/own/* change direct statement"}},
		{super, "UPDATE vault.grants SET role_oid = 1", nil, nil}, // as a restored dump may have them
		{super, "SELECT vault.adopt_grants()", nil, []string{"grant ok 1 adopted change direct statement"}},
		{super, "SELECT vault.adopt_grants()", nil, nil},
		{super, "SELECT vault.add_token('by hand', NULL, sha256('x'))", nil, []string{"token_create ok by hand change direct statement"}},
		{
			app, "SELECT vault.delete_secret(name) FROM names ORDER BY name DESC", nil,
			[]string{"delete ok s/c v2 change direct statement", "delete ok s/a v4 change direct statement"},
		},
		{app, "DO $$ BEGIN PERFORM vault.delete_secret('s/a'); END $$", nil, []string{"delete failed (missing) s/a"}},
		{app, "SELECT vault.put_secret('s/a', 'again')", nil, []string{"update ok s/a v5 change direct statement"}},
	})
}

// So does each refusal.
func TestRecordsOfRefusedSQL(t *testing.T) {
	n, sink := auditedNode(t)
	app, nobody := n.connect(t, n.User, n.Password), n.connect(t, "nobody", "nobody")
	n.core.SetMisses(2, time.Hour, time.Hour)
	n.exec(t, "CREATE TABLE status AS SELECT 's/a'::text AS name")
	n.exec(t, "CREATE FUNCTION wrapped(v text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN vault.put_secret('s/w', v); END $$")
	n.records(t, sink, []sqlCase{
		{app, "SELECT vault.put_secret('s/a', 'one')", nil, []string{"update ok s/a v1 change direct statement"}},
		{nobody, "SELECT vault.read_secret('s/a')", nil, []string{"read denied (grant) s/a direct statement"}},
		{nobody, "SELECT vault.read_secret($1, missing_ok => true)", []any{"s/a"}, []string{"read denied (grant) s/a direct statement"}},
		{nobody, "SELECT vault.put_secret('s/a', 'x')", nil, []string{"update denied (grant) s/a direct statement"}},
		{nobody, "SELECT vault.create_secret('s/n', 'manual', 'x')", nil, []string{"create denied (grant) s/n direct statement"}},
		{nobody, "SELECT vault.rotate_secret('s/a')", nil, []string{"rotate denied (grant) s/a direct statement"}},
		{nobody, "SELECT vault.delete_secret('s/a')", nil, []string{"delete denied (grant) s/a direct statement"}},
		{nobody, "SELECT vault.update_secret('s/a', description => 'x')", nil, []string{"update denied (grant) s/a direct statement"}},
		{nobody, "SELECT vault.verify_secret('s/a', 'x')", nil, []string{"verify denied (grant) s/a direct statement"}},
		{nobody, "SELECT vault.list_versions('s/a')", nil, []string{"list denied (grant) s/a direct statement"}},
		{nobody, "SELECT vault.grant_access('nobody', '*', '*')", nil, []string{"grant denied (admin) nobody * direct statement"}},

		{nobody, "SELECT * FROM vault.node_read('s/a', 1, 'x')", nil, []string{"read denied (grant) direct statement"}},
		{nobody, "SELECT vault.node_delete($1, 'x')", []any{"s/a"}, []string{"delete denied (grant) direct statement"}},
		{nobody, "SELECT vault.prune_audit(now())", nil, []string{"delete denied (grant) direct statement"}},
		{nobody, "SELECT vault.rest_admin('', 'create_role', 'x', '{}')", nil, []string{"role_update denied (grant) direct statement"}},
		{app, "SELECT vault.read_secret('s/a'), vault.add_token('x', NULL, '')", nil, []string{"token_create denied (grant) direct statement"}},
		{nobody, "PREPARE p AS SELECT vault.add_token('x', NULL, '')", nil, nil},
		{nobody, "EXECUTE p", nil, []string{"token_create denied (grant) direct"}},
		{nobody, "SELECT vault.tick()", nil, []string{"rotate denied (grant) direct statement"}},
		{nobody, "SELECT vault.read_secret(name) FROM status", nil, nil}, // it is the table, though a function is called so

		{app, "SELECT vault.create_secret('s/a', 'manual', 'x')", nil, []string{"create failed (exists) s/a direct statement"}},
		{app, "SELECT vault.put_secret(lower('a'), 'x')", nil, []string{"update failed (unsupported) direct statement"}},
		{app, "SELECT vault.put_secret('not a name', 'x')", nil, []string{"update failed (invalid) direct statement"}},
		{app, "SELECT vault.put_secret($1, 'x')", []any{"not a name"}, []string{"update failed (invalid) direct statement"}},
		{app, "SELECT vault.put_secret('s/a', $1)", []any{""}, []string{"update failed (invalid) s/a direct statement"}},
		{app, "SELECT array_agg(vault.read_secret(name)) FROM (SELECT 's/a' AS name) x", nil, []string{"read failed (unsupported) direct statement"}},
		{app, "SELECT wrapped('x')", nil, []string{"update failed (unsealed) s/w"}},
		{app, "SELECT vault.verify_secret('s/a', 'x')", nil, []string{"verify mismatch s/a direct statement"}},
		{app, "SELECT vault.verify_secret('s/a', 'x')", nil, []string{"verify mismatch s/a direct statement"}},
		{app, "SELECT vault.verify_secret('s/a', 'one')", nil, []string{"verify locked_out (limited) s/a direct statement"}},
		{app, "SET client_encoding = 'LATIN1'", nil, nil},
		{app, "SELECT vault.put_secret('s/a', $1)", []any{"\u00c4"}, []string{"update failed (encoding) direct statement"}},
		{app, "SET client_encoding = 'UTF8'", nil, nil},
	})
}

// With an extension that has no numbers of changes and tells nothing there are the
// records of values.
func TestRecordsWithOlderExtension(t *testing.T) {
	n, sink := auditedNode(t)
	for _, sql := range []string{
		"DROP EXTENSION hyperion_vault CASCADE", "CREATE EXTENSION hyperion_vault VERSION '1.5'", "SELECT vault.grant_service_role('vault_service')",
		"INSERT INTO vault.meta (vault_id, kms_key_ids, bootstrapped_at) VALUES ('" + n.VaultID + "', '{}', now())",
		"SELECT vault.grant_access('" + n.User + "', '*', '*')", "SELECT vault.add_token('old', 'admin', sha256('hvt_old'))",
	} {
		n.exec(t, sql)
	}
	app := n.connect(t, n.User, n.Password)
	sink.take()
	for _, tt := range []struct {
		sql  string
		want []string
	}{
		{"SELECT vault.put_secret('o/a', 'x')", []string{"update ok o/a v1 direct statement"}},
		{"SELECT vault.read_secret('o/a')", []string{"read ok o/a v1 direct statement"}},
		{"SELECT vault.delete_secret('o/a')", nil},
	} {
		_, err := app.Exec(t.Context(), tt.sql, pgx.QueryExecModeSimpleProtocol)
		if got, _ := sink.take(); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: recorded %q, %v, want %q", tt.sql, got, err, tt.want)
		}
	}
	a, err := n.core.Authenticate(t.Context(), "hvt_old", netip.MustParseAddr("127.0.0.1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	text := "about it"
	_, err = n.core.Create(t.Context(), a, "o/b", false, vault.Change{Value: []byte("x"), Description: &text})
	if got, _ := sink.take(); err != nil || !slices.Equal(got, []string{"create ok o/b v1 direct"}) {
		t.Errorf("by REST: recorded %q, %v", got, err)
	}
}

// What is opened and is not genuine is no reading; neither is what an address may not.
func TestRecordsOfTampering(t *testing.T) {
	n, sink := auditedNode(t)
	app := n.connect(t, n.User, n.Password)
	for _, sql := range []string{"SELECT vault.put_secret('t/a', 'x')", "SELECT vault.put_secret('t/b', 'x')"} {
		if _, err := app.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	n.exec(t, "UPDATE vault.secret_versions SET nonce = decode(repeat('00', 24), 'hex') WHERE secret_id = (SELECT id FROM vault.secrets WHERE name = 't/b')")
	expect := func(sql, want string) {
		t.Helper()
		sink.take()
		rows, err := app.Query(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
		if err == nil {
			rows.Close()
			err = rows.Err()
		}
		if got, _ := sink.take(); err == nil || !slices.Equal(got, []string{want}) {
			t.Errorf("%s (%v): recorded %q, want %q", sql, err, got, want)
		}
	}
	expect("SELECT vault.read_secret('t/b')", "tampering failed (tampered) t/b v1 direct statement")
	expect("SELECT vault.verify_secret('t/b', 'x')", "tampering failed (tampered) t/b direct statement")
	n.exec(t, "UPDATE vault.secrets SET allowed_cidrs = '{203.0.113.0/24}' WHERE name = 't/a'")
	expect("SELECT vault.read_secret('t/a')", "read denied (cidrs) t/a v1 direct statement")
	expect("SELECT vault.verify_secret('t/a', 'x')", "verify denied (cidrs) t/a direct statement")
	n.core.SetAllowedIPs(nil, nil)
	expect("SELECT vault.read_secret('t/a')", "read denied (address) t/a v1 direct statement")
	expect("SELECT vault.verify_secret('t/a', 'x')", "verify denied (address) t/a direct statement")
}

// While the audit is full nothing is opened and nothing changes, and what the vault
// does not concern goes on; afterwards all goes on.
func TestAuditIsFull(t *testing.T) {
	n, sink := auditedNode(t)
	app, super := n.connect(t, n.User, n.Password), n.connect(t, n.Superuser, n.SuperuserPassword)
	works := func(as *pgx.Conn, sql string) (code string) {
		rows, err := as.Query(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
		if err == nil {
			rows.Close()
			err = rows.Err()
		}
		if err == nil {
			return "ok"
		}
		var state interface{ SQLState() string }
		if errors.As(err, &state) {
			return state.SQLState()
		}
		return err.Error()
	}
	if got := works(app, "SELECT vault.put_secret('f/a', 'x')"); got != "ok" {
		t.Fatal(got)
	}
	before := n.changes(t, 0)
	sink.fail(errors.New("no space left on device"))
	for sql, want := range map[string]string{
		"SELECT vault.read_secret('f/a')":               stateIO,
		"SELECT vault.put_secret('f/a', 'y')":           stateIO,
		"SELECT vault.delete_secret('f/a')":             stateIO,
		"SELECT vault.verify_secret('f/a', 'x')":        stateIO,
		"SELECT vault.grant_access('nobody', 'f/a')":    stateIO,
		"SELECT vault.read_secret('f/none')":            "P0002",
		"SELECT 1":                                      "ok",
		"CREATE TEMP TABLE IF NOT EXISTS x AS SELECT 1": "ok",
	} {
		if got := works(app, sql); got != want {
			t.Errorf("%s: got %s, want %s", sql, got, want)
		}
	}
	for _, sql := range []string{ // for the service role and the owner alone
		"SELECT vault.add_token('f', NULL, sha256('f'))",
		"SELECT vault.bootstrap_token(sha256('f'))",
		"SELECT vault.rest_admin(sha256('f'), 'create_role', 'f', '{}')",
		"SELECT vault.node_write('f', 'create', 'manual', 'f')",
		"SELECT vault.node_update('f/a', NULL, NULL, 'f', NULL, 'f')",
		"SELECT vault.node_reschedule('f/a', now(), 'f')",
		"SELECT vault.node_delete('f/a', 'f')",
		"SELECT vault.complete_rotation(1, NULL, 1, 'f')",
		"SELECT vault.prune_audit(now())",
	} {
		if got := works(super, sql); got != stateIO {
			t.Errorf("%s: got %s, want %s", sql, got, stateIO)
		}
	}
	a, err := n.core.Authenticate(t.Context(), n.AdminToken, netip.MustParseAddr("127.0.0.1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.core.Delete(t.Context(), a, "f/a", 0); vault.KindOf(err) != vault.KindAudit {
		t.Errorf("by REST: got %v", err)
	}
	if _, err := n.core.CreateRole(t.Context(), a, vault.Role{Name: "f"}); vault.KindOf(err) != vault.KindAudit {
		t.Errorf("a role by REST: got %v", err)
	}
	if after := n.changes(t, 0); !slices.Equal(before, after) {
		t.Errorf("the server has changes %v, before %v", after, before)
	}
	sink.fail(nil)
	if got := works(app, "SELECT vault.put_secret('f/a', 'y'), vault.read_secret('f/a')"); got != "ok" {
		t.Error(got)
	}
}

// What a node does by itself: it rotates, and registers its first token.
func TestRecordsOfTheNode(t *testing.T) {
	n, sink := auditedNode(t)
	app := n.connect(t, n.User, n.Password)
	if _, err := app.Exec(t.Context(), "SELECT vault.create_secret('n/a', 'automatic', rotation_interval => '1 day')"); err != nil {
		t.Fatal(err)
	}
	n.exec(t, "SELECT vault.update_secret('n/a', next_rotation_at => now())")
	n.exec(t, "DELETE FROM vault.admin_tokens")
	last := slices.Max(n.changes(t, 0))
	sink.take()
	n.core.Bootstrap(t.Context(), make([]byte, 32))
	n.core.Bootstrap(t.Context(), make([]byte, 32)) // it is there now
	words, ids := sink.takeChanges()
	if want := []string{"token_create ok bootstrap change direct"}; !slices.Equal(words, want) || !slices.Equal(ids, n.changes(t, last)) {
		t.Errorf("recorded %q, want %q; changes %v", words, want, ids)
	}
	last = slices.Max(ids)

	recorded := make(chan struct{})
	sink.mu.Lock()
	sink.before = func() { close(recorded) }
	sink.mu.Unlock()
	n.exec(t, "SELECT vault.tick()")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { n.core.KeepRotating(t.Context(), 100*time.Millisecond, stop); close(stopped) }()
	<-recorded
	close(stop)
	<-stopped
	words, ids = sink.takeChanges()
	if want := []string{"rotate ok n/a v2 change direct"}; !slices.Equal(words, want) || !slices.Equal(ids, n.changes(t, last)) {
		t.Errorf("recorded %q, want %q; changes %v", words, want, ids)
	}
}

// A log-in is recorded before the client knows of it, and why one was refused.
func TestRecordsOfLogins(t *testing.T) {
	n, sink := auditedNode(t)
	n.exec(t, "CREATE ROLE rejected LOGIN PASSWORD 'rejected'")
	hba := filepath.Join(n.Primary().DataDir, "pg_hba.conf")
	rules, err := os.ReadFile(hba)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(hba, append([]byte("host all rejected all reject\n"), rules...), 0o600); err != nil { // the owner stays; it is read when the first log-in asks
		t.Fatal(err)
	}
	sink.take()
	for _, tt := range []struct{ user, password, want string }{
		{"nobody", "nobody", "login ok"},
		{"nobody", "wrong", "login denied (password)"},
		{"stranger", "x", "login denied (password)"},
		{"rejected", "rejected", "login denied (hba)"},
	} {
		conn, err := pgx.Connect(t.Context(), n.dsn(tt.user, tt.password))
		if err == nil {
			err = conn.Close(t.Context())
		}
		if got, _ := sink.take(); !slices.Equal(got, []string{tt.want}) {
			t.Errorf("%s: recorded %q (%v), want %q", tt.user, got, err, tt.want)
		}
	}
}
