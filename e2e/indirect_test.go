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

// Ways to a secret that the statement's own text does not ask for.
var indirect = map[string][]string{
	"view":               {"SELECT * FROM indirect.v"},
	"function":           {"SELECT indirect.f()"},
	"cursor of a view":   {"DECLARE c CURSOR FOR SELECT * FROM indirect.v", "FETCH c"},
	"function's cursor":  {"SELECT indirect.c()", "FETCH fc"},
	"prepared statement": {"PREPARE p AS SELECT * FROM indirect.v", "EXECUTE p", "DEALLOCATE p"},
}

// Ways by the statement's own text, or its cursor's.
var direct = map[string][]string{
	"statement":          {"SELECT vault.read_secret('indirect/a')"},
	"cursor":             {"DECLARE d CURSOR FOR SELECT vault.read_secret('indirect/a')", "FETCH d"},
	"prepared statement": {"PREPARE d AS SELECT vault.read_secret('indirect/a')", "EXECUTE d", "DEALLOCATE d"},
	// Texts that are looked into for another reason.
	"cursor of that name": {"DECLARE vault_d CURSOR FOR SELECT vault.read_secret('indirect/a')", "FETCH vault_d"},
	"secret of that name": {"PREPARE d (text) AS SELECT vault.read_secret($1)", "EXECUTE d ('indirect/update/a_secret')", "DEALLOCATE d"},
}

// TestOpenIndirect: what comes of a view or function opens for whom
// VAULT_OPEN_INDIRECT says, and for who asks for it by its name always.
func TestOpenIndirect(t *testing.T) {
	put(t, "indirect/a", "indirect canary", "indirect/update/a", "indirect canary", "indirect/update/a_secret", "indirect canary")
	bypass, user := shared.AddUser(t, "indirect_bypass", "indirect/*", "read"), shared.AddUser(t, "indirect_user", "indirect/*", "read")
	super := shared.Connect(t, shared.SuperDSN(0))
	for _, sql := range []string{
		"ALTER ROLE indirect_bypass BYPASSRLS",
		"CREATE SCHEMA indirect CREATE VIEW v AS SELECT vault.read_secret('indirect/a') AS v",
		"CREATE FUNCTION indirect.f() RETURNS vault.sealed LANGUAGE sql STABLE RETURN vault.read_secret('indirect/a')",
		`CREATE FUNCTION indirect.c() RETURNS refcursor LANGUAGE plpgsql AS $$ DECLARE c refcursor := 'fc'; BEGIN
			OPEN c FOR SELECT vault.read_secret('indirect/a'); RETURN c; END $$`,
		"GRANT USAGE ON SCHEMA indirect TO PUBLIC; GRANT SELECT ON indirect.v TO PUBLIC",
	} {
		cluster.Exec(t, super, sql)
	}
	defer cluster.Exec(t, super, "DROP SCHEMA indirect CASCADE")
	proxies := map[string]string{"users": shared.Nodes[0].Proxy} // by default
	for _, word := range []string{"on", "off"} {
		proxies[word] = shared.Nodes[0].StartLoose(t, map[string]string{"VAULT_OPEN_INDIRECT": word}).Proxy
	}
	for _, row := range []struct {
		word, role string
		opens      bool
	}{
		{"on", user, true},
		{"on", bypass, true},
		{"on", shared.Superuser, true},
		{"users", user, true},
		{"users", bypass, false},
		{"users", shared.Superuser, false},
		{"off", user, false},
		{"off", bypass, false},
		{"off", shared.Superuser, false},
	} {
		t.Run(row.word+" "+row.role, func(t *testing.T) {
			s := openSession(t, shared.AddressDSN(proxies[row.word], row.role))
			for name, texts := range indirect {
				opened(t, s, "indirect "+name, texts, row.opens)
			}
			for name, texts := range direct {
				opened(t, s, "direct "+name, texts, true)
			}
			openedByName(t, s)
			s.Ask(t, "1 Z(I)", rawpg.Parse("put", putText), rawpg.Sync()) // from now on each EXECUTE is looked into
			for name, texts := range direct {
				opened(t, s, "beside a put, direct "+name, texts, true)
			}
		})
	}
	// At a standby a text is looked into that may write.
	shared.WaitReplayed(t, 1)
	s := openSession(t, shared.AddressDSN(shared.Nodes[1].StartLoose(t, map[string]string{"VAULT_OPEN_INDIRECT": "off"}).Proxy, user))
	s.must("PREPARE d (text) AS SELECT vault.read_secret($1)")
	for _, messages := range [][]pgproto3.FrontendMessage{{rawpg.Query("EXECUTE d ('indirect/update/a')")}, batch("EXECUTE d ('indirect/update/a')")} {
		if a := s.do(messages...); len(a.rows) != 1 || a.rows[0] != "indirect canary" {
			t.Errorf("at a standby: %s", a)
		}
	}
}

// openedByName describes and runs by the protocol what SQL has declared and prepared.
func openedByName(t *testing.T, s *session) {
	t.Helper()
	s.Ask(t, "C(BEGIN) C(DECLARE_CURSOR) C(PREPARE) Z(T)", rawpg.Query(`BEGIN; DECLARE d CURSOR FOR SELECT vault.read_secret('indirect/a') AS v;
		PREPARE d AS SELECT vault.read_secret('indirect/a') AS v`))
	s.Ask(t, "T(v:25) D(indirect_canary) C(SELECT_1) Z(T)", rawpg.DescribePortal("d"), rawpg.Execute("d", 0), rawpg.Sync())
	s.Ask(t, "t T(v:25) 2 D(indirect_canary) C(SELECT_1) Z(T)", rawpg.DescribeStatement("d"), rawpg.Bind("", "d"), rawpg.Execute("", 0), rawpg.Sync())
	s.Ask(t, "C(ROLLBACK) C(DEALLOCATE) Z(I)", rawpg.Query("ROLLBACK; DEALLOCATE d"))
}

// TestOpenIndirectAs: who has become one for whom nothing is opened indirectly, or was
// one, is that: also in the same message, and behind a description from before.
func TestOpenIndirectAs(t *testing.T) {
	put(t, "indirect/as", "indirect canary")
	super := shared.Connect(t, shared.SuperDSN(0))
	bypass, user := shared.AddUser(t, "as_bypass", "indirect/*", "read"), shared.AddUser(t, "as_user", "indirect/*", "read")
	member := shared.AddUser(t, "as_member", "indirect/*", "read")
	for _, sql := range []string{
		"ALTER ROLE as_bypass BYPASSRLS",
		"GRANT as_bypass, as_user, " + shared.Superuser + " TO as_member",
		"CREATE SCHEMA as_role CREATE VIEW v AS SELECT vault.read_secret('indirect/as') AS v",
		"CREATE TYPE as_role.new AS (n int); CREATE FUNCTION as_role.news() RETURNS as_role.new LANGUAGE sql RETURN ROW(1)::as_role.new",
		"CREATE TABLE as_role.t (n int)",
		"GRANT USAGE ON SCHEMA as_role TO PUBLIC; GRANT SELECT ON as_role.v TO PUBLIC; GRANT INSERT ON as_role.t TO PUBLIC",
	} {
		cluster.Exec(t, super, sql)
	}
	defer cluster.Exec(t, super, "DROP SCHEMA as_role CASCADE")
	const view = "SELECT * FROM as_role.v"
	for _, row := range []struct {
		name, login string
		texts       []string
		opens       bool
	}{
		{"member", member, []string{view}, true},
		{"superuser's role", member, []string{"SET ROLE " + shared.Superuser, view}, false},
		{"bypassing role", member, []string{"SET ROLE as_bypass", view}, false},
		{"other role", member, []string{"SET ROLE as_user", view}, true},
		{"back again", member, []string{"SET ROLE as_bypass", view, "RESET ROLE", view}, true},
		{"user", user, []string{view}, true},
		{"bypassing", bypass, []string{view}, false},
		{"bypassing as another", shared.Superuser, []string{"SET ROLE as_user", view}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := openSession(t, shared.DSN(0, row.login))
			opened(t, s, row.name, row.texts, row.opens)
			if len(row.texts) == 2 {
				together(t, s, row.name, row.texts, row.opens)
			}
		})
	}
	s := openSession(t, shared.DSN(0, shared.Superuser))
	s.must("SET SESSION AUTHORIZATION as_user")
	s.must("SELECT as_role.news()") // a type that the node does not know: it looks into the catalog again
	s.must("SELECT 'vault.'")
	opened(t, s, "superuser as another", []string{view}, false)
	s.must("RESET SESSION AUTHORIZATION")
	opened(t, s, "superuser who was another", []string{view}, false)

	s = openSession(t, shared.DSN(1, shared.Superuser))
	s.must("SET SESSION AUTHORIZATION as_user")
	s.must("INSERT INTO as_role.t VALUES (1)") // moves the session
	opened(t, s, "superuser as another who has moved", []string{view}, false)
	s.must("RESET SESSION AUTHORIZATION")
	opened(t, s, "superuser who was another and has moved", []string{view}, false)

	s = openSession(t, shared.DSN(0, member))
	s.must("SET ROLE " + shared.Superuser)
	s.do(rawpg.Parse("s", view), rawpg.DescribeStatement("s"), rawpg.Sync())
	s.must("RESET ROLE")
	if a := s.do(rawpg.Bind("", "s"), rawpg.Execute("", 0), rawpg.Sync()); len(a.rows) != 1 || a.rows[0] != "indirect canary" {
		t.Errorf("described as a superuser, run as oneself: %s, rows %.60q", a, a.rows)
	}
}

// together is opened with all texts sent at once.
func together(t *testing.T, s *session, way string, texts []string, want bool) {
	t.Helper()
	for protocol, messages := range map[string][]pgproto3.FrontendMessage{
		"simple":   {rawpg.Query(strings.Join(texts, "; "))},
		"extended": batch(texts...),
	} {
		a := s.do(messages...)
		if len(a.errors) > 0 || len(a.rows) != 1 || (a.rows[0] == "indirect canary") != want {
			t.Errorf("%s, together, %s protocol: %s, rows %.60q; opened: want %v", way, protocol, a, a.rows, want)
		}
		s.must("RESET ROLE")
	}
}

// opened runs the texts in a block, by either protocol, and looks at the secret's
// column of the last row.
func opened(t *testing.T, s *session, way string, texts []string, want bool) {
	t.Helper()
	for protocol, messages := range map[string]func(sql string) []pgproto3.FrontendMessage{
		"simple":   func(sql string) []pgproto3.FrontendMessage { return []pgproto3.FrontendMessage{rawpg.Query(sql)} },
		"extended": func(sql string) []pgproto3.FrontendMessage { return batch(sql) },
	} {
		s.must("BEGIN")
		got := ""
		for _, sql := range texts {
			a := s.do(messages(sql)...)
			if len(a.errors) > 0 {
				t.Errorf("%s: %s", sql, a)
			}
			if len(a.rows) > 0 { // a function gives its cursor's name first
				got = a.rows[0]
			}
		}
		s.must("ROLLBACK")
		if want && got != "indirect canary" || !want && !strings.HasPrefix(got, "hv1.") {
			t.Errorf("%s, %s protocol: got %.60q; opened: want %v", way, protocol, got, want)
		}
	}
}
