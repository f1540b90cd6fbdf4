// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package routing

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestNotLetIn: a primary that does not take the session costs it its writes, which
// are refused with what helps; the session goes on at its standby.
func TestNotLetIn(t *testing.T) {
	schema(t)
	super := shared.Connect(t, shared.SuperDSN(0))
	for _, c := range []struct{ role, change, undo, detail, hint string }{
		{"in_password", "PASSWORD 'another'", "", "another password", "connect again"},
		{"in_limit", "CONNECTION LIMIT 0", "CONNECTION LIMIT -1", "too many connections for role \"in_limit\" (SQLSTATE 53300)", "CONNECTION LIMIT"},
		{"in_nologin", "NOLOGIN", "LOGIN", "is not permitted to log in (SQLSTATE 28000)", "connect again"},
	} {
		t.Run(c.role, func(t *testing.T) {
			shared.AddUser(t, c.role)
			shared.WaitReplayed(t, 1)
			s := dial(t, shared.DSN(1, c.role))
			cluster.Exec(t, super, "ALTER ROLE "+c.role+" "+c.change)
			said := func(what string, e *pgproto3.ErrorResponse) {
				t.Helper()
				if !strings.Contains(e.Detail, c.detail) || !strings.Contains(e.Hint, c.hint) {
					t.Errorf("%s: detail %q, hint %q; want %q and %q", what, e.Detail, e.Hint, c.detail, c.hint)
				}
			}
			for _, st := range []step{
				query("E(25006) Z(I)", "INSERT INTO r.t (v) VALUES ('in')"), query("T(w:25) E(25006) Z(I)", "SELECT r.w('in')"),
				execute("E(25006) Z(I)", "INSERT INTO r.t (v) VALUES ($1)", "in"), query("E(25006) Z(I)", "SELECT vault.put_secret('in/a', 'let in canary')"),
			} {
				s.Ask(t, st.want, st.msgs...)
				said(st.want, s.Err)
				where(t, s, false)
			}
			if err := s.Send(rawpg.Query("BEGIN")); err != nil {
				t.Fatal(err)
			}
			m, err := s.Receive()
			if err != nil || m.Type != 'N' {
				t.Fatalf("got %v, %v; want a warning", m, err)
			}
			var warning pgproto3.ErrorResponse // of the same form
			if err := warning.Decode(m.Body); err != nil {
				t.Fatal(err)
			}
			said("BEGIN", &warning)
			s.Expect(t, "C(BEGIN) Z(T)")
			s.Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("ROLLBACK"))
			if c.undo == "" { // the session's proof is of the password before
				shared.WaitReplayed(t, 1)
				s = dial(t, shared.DSN(1, c.role)+" password=another")
			} else {
				cluster.Exec(t, super, "ALTER ROLE "+c.role+" "+c.undo)
			}
			s.Ask(t, "C(INSERT_0_1) Z(I)", rawpg.Query("INSERT INTO r.t (v) VALUES ('"+c.role+"')"))
		})
	}
	if got := rows(t, "in"); got != "0" {
		t.Errorf("%s rows came of what was refused", got)
	}
	shared.NeverSent(t, "let in canary")
}
