// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package routing

import (
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestRunsOnce: what the primary itself refuses as a standby would is not run there once
// more, nor does the session log in again: a sequence, say, would go on twice.
func TestRunsOnce(t *testing.T) {
	schema(t)
	super := shared.Connect(t, shared.SuperDSN(0))
	shared.AddUser(t, "once_user")
	shared.WaitReplayed(t, 1)
	readOnly := func(change, want string) {
		cluster.Exec(t, super, "ALTER SYSTEM "+change)
		cluster.Exec(t, super, "SELECT pg_reload_conf()")
		cluster.Eventually(t, "the setting "+want, func() bool {
			return cluster.Text(t, super, "SHOW default_transaction_read_only") == want
		})
	}
	readOnly("SET default_transaction_read_only = on", "on")
	defer readOnly("RESET default_transaction_read_only", "off")
	for name, st := range map[string]step{
		"query":    query("S(default_transaction_read_only=on) E(25006) Z(I)", "INSERT INTO r.t (v) VALUES ('once query')"),
		"extended": execute("S(default_transaction_read_only=on) 1 2 n E(25006) Z(I)", "INSERT INTO r.t (v) VALUES ('once extended')"),
		"named": ask("1 S(default_transaction_read_only=on) 2 E(25006) Z(I)",
			rawpg.Parse("n", "INSERT INTO r.t (v) VALUES ('once named')"), rawpg.Bind("p", "n"), rawpg.Execute("p", 0), rawpg.Sync()),
		"by refusal": query("T(w:25) S(default_transaction_read_only=on) E(25006) Z(I)", "SELECT r.w('once by refusal')"),
	} {
		t.Run(name, func(t *testing.T) {
			before := shared.ServerLog(t, 0)
			s := dial(t, shared.DSN(1, "once_user"))
			s.Ask(t, st.want, st.msgs...)
			log := strings.TrimPrefix(shared.ServerLog(t, 0), before)
			if n := strings.Count(log, "connection authorized: user=once_user"); n != 1 {
				t.Errorf("the session logged in %d times", n)
			}
			if n := strings.Count(log, "ERROR:  25006"); n != 1 {
				t.Errorf("the primary refused %d statements", n)
			}
		})
	}
}
