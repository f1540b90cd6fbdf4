// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package routing

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestParkSecs: the connection to the primary that a session has left is closed
// after VAULT_PARK_SECS, without a word of the client's, and with 0 at once.
func TestParkSecs(t *testing.T) {
	schema(t)
	super := shared.Connect(t, shared.SuperDSN(0))
	for _, secs := range []string{"0", "1"} {
		t.Run(secs, func(t *testing.T) {
			node := shared.Nodes[1].StartLoose(t, map[string]string{"VAULT_MOVE_BACK_AFTER": "1ms", "VAULT_PARK_SECS": secs})
			s := dial(t, shared.AddressDSN(node.Proxy, shared.User)+" application_name=parked_"+secs)
			there := func() string {
				return cluster.Text(t, super, "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'parked_"+secs+"'")
			}
			for range 2 {
				s.Rows(t, "INSERT INTO r.t (v) VALUES ('park')")
				if got := there(); got != "1" {
					t.Fatalf("%s connections to the primary, want 1", got)
				}
				atHome(t, s)
				cluster.Eventually(t, "the end of the connection that was left", func() bool { return there() == "0" })
				where(t, s, false)
				s.Ask(t, "T(lastval:20) E(55000) Z(I)", rawpg.Query("SELECT lastval()")) // it was kept there
			}
		})
	}
}
