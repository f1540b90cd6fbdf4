// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestExtensionMadeAnew: another connection drops the extension and creates it, so that
// its type and functions have other OIDs than a session's node knows. The first result
// that has the type stays shut, the next is opened, and the functions are known again.
func TestExtensionMadeAnew(t *testing.T) {
	c := cluster.Start(t, cluster.Spec{Settings: cluster.LogAll()})
	super := c.Connect(t, c.SuperDSN(0))
	s, other, caller := dial(t, c.DSN(0, c.User)), dial(t, c.DSN(0, c.User)), dial(t, c.DSN(0, c.User))
	put := func() {
		t.Helper()
		if _, err := c.Connect(t, c.DSN(0, c.User)).Exec(t.Context(), "SELECT vault.put_secret('anew/a', 'anew canary')"); err != nil {
			t.Fatal(err)
		}
	}
	const read = "SELECT vault.read_secret('anew/a') AS pw"
	const opened = "T(pw:25) D(anew_canary) C(SELECT_1) Z(I)"
	put()
	for _, s := range []*rawpg.Conn{s, other} {
		s.Ask(t, opened, rawpg.Query(read))
	}
	function := func() (oid uint32) {
		t.Helper()
		if err := super.QueryRow(t.Context(), "SELECT 'vault.put_secret(text,text,text)'::regprocedure::oid").Scan(&oid); err != nil {
			t.Fatal(err)
		}
		return oid
	}
	before := function()
	id := cluster.Text(t, super, "SELECT vault_id::text FROM vault.meta")
	// At once, so that the node never sees a database without the extension.
	if _, err := super.Exec(t.Context(), strings.Join([]string{
		"DROP EXTENSION hyperion_vault CASCADE", "CREATE EXTENSION hyperion_vault", "INSERT INTO vault.meta (vault_id) VALUES ('" + id + "')",
		"SELECT vault.grant_service_role('vault_service')", "SELECT vault.grant_access('" + c.User + "', '*', '*')",
	}, ";"), pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	after := function()
	if before == after {
		t.Fatal("the function's OID is that of before")
	}
	put()
	call := &pgproto3.FunctionCall{Function: after, Arguments: [][]byte{[]byte("anew/a"), []byte("anew canary"), []byte("d")}}
	caller.Ask(t, "E(0A000) Z(I)", call) // the first that it hears of it; the extension's own word would come from the server
	if !strings.Contains(caller.Err.Message, "fast path") {
		t.Errorf("the value went to the server, which says %q", caller.Err.Message)
	}
	caller.Settled(t, "I")
	for how, tt := range map[string]struct {
		s    *rawpg.Conn
		msgs []pgproto3.FrontendMessage
	}{
		"simple":   {s, []pgproto3.FrontendMessage{rawpg.Query(read)}},
		"extended": {other, []pgproto3.FrontendMessage{rawpg.Parse("", read), rawpg.Bind("", ""), rawpg.DescribePortal(""), rawpg.Execute("", 0), rawpg.Sync()}},
	} {
		if err := tt.s.Send(tt.msgs...); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(tt.s.Answers(t), " "); !strings.Contains(got, "D(hv1.") || strings.Contains(got, "canary") {
			t.Errorf("%s, the first read: got %s, want a record", how, got)
		}
		tt.s.Ask(t, opened, rawpg.Query(read))
		tt.s.Ask(t, "E(0A000) Z(I)", call)
		tt.s.Settled(t, "I")
	}
	c.NeverSent(t, "anew canary")
}
