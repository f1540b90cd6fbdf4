// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package routing

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestHomeAfterFailover: with the extension of before vault.replayed() sessions go
// back to their standby while the primary stays the same; once it is upgraded, by
// replay and under a node that runs, also after a promotion, before the next
// restartpoint. So does what VAULT_MAX_STALENESS has to know.
func TestHomeAfterFailover(t *testing.T) {
	c := cluster.Start(t, cluster.Spec{
		Standbys: 2, Settings: cluster.PlainSettings(), NodeEnv: map[string]string{"VAULT_MOVE_BACK_AFTER": "1ms", "VAULT_MAX_STALENESS": "2s"},
	})
	super := c.Connect(t, c.SuperDSN(0))
	for _, sql := range []string{
		"CREATE TABLE public.t (v text)", "GRANT ALL ON public.t TO PUBLIC",
		"ALTER EXTENSION hyperion_vault DROP FUNCTION vault.replayed()", "ALTER FUNCTION vault.replayed() RENAME TO not_yet",
	} {
		cluster.Exec(t, super, sql)
	}
	put(t, c.Connect(t, c.DSN(0, c.User)), "one")
	c.WaitReplayed(t, 2)
	there := func(node int) {
		t.Helper()
		s := dial(t, c.DSN(node, c.User))
		s.Ask(t, "C(INSERT_0_1) Z(I)", rawpg.Query("INSERT INTO public.t (v) VALUES ('x')"))
		atHome(t, s)
		opens(t, c.Connect(t, c.DSN(node, c.User)), "one")
	}
	there(2)
	cluster.Exec(t, super, "ALTER FUNCTION vault.not_yet() RENAME TO replayed")
	cluster.Exec(t, super, "ALTER EXTENSION hyperion_vault ADD FUNCTION vault.replayed()")
	there(2)

	manager := cluster.Plain{Cluster: c}
	manager.Lose(t, c.Nodes[0])
	left := 1
	if manager.Failover(t) == c.Nodes[1] {
		left = 2
	}
	there(left)
}
