// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package routing

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestHomeAfterCrash: a standby that has crashed shows less than it did, until it
// has replayed that again. What the node knows of it from before counts no more.
func TestHomeAfterCrash(t *testing.T) {
	c := cluster.Start(t, cluster.Spec{Standbys: 1, NodeEnv: map[string]string{"VAULT_MOVE_BACK_AFTER": "1ms"}})
	super, replay := c.Connect(t, c.SuperDSN(0)), c.Connect(t, c.SuperDSN(1))
	cluster.Exec(t, super, "CREATE TABLE public.t (v text)")
	cluster.Exec(t, super, "GRANT ALL ON public.t TO PUBLIC")
	cluster.Exec(t, super, "CHECKPOINT")
	c.WaitReplayed(t, 1)
	cluster.Exec(t, replay, "CHECKPOINT")
	cluster.Exec(t, super, "SELECT pg_logical_emit_message(false, 'crash', 'here')")
	// Where the standby stops when it comes back.
	cluster.Exec(t, replay, "ALTER SYSTEM SET recovery_target_lsn = '"+cluster.Text(t, super, "SELECT pg_current_wal_lsn()::text")+"'")

	s, other := dial(t, c.DSN(1, c.User)), dial(t, c.DSN(1, c.User))
	s.Rows(t, "INSERT INTO public.t VALUES ('mine')")
	other.Rows(t, "INSERT INTO public.t VALUES ('its')")
	atHome(t, other) // the node has seen both rows at the standby
	if err := c.Nodes[1].KillServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Nodes[1].StartServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	replay = c.Connect(t, c.SuperDSN(1))
	if got := cluster.Text(t, replay, "SELECT count(*)::text FROM public.t"); got != "0" {
		t.Fatalf("the standby shows %s rows, and should not yet", got)
	}
	for range 20 {
		if got := s.Rows(t, "SELECT count(*) FROM public.t"); got != "D(2)" {
			t.Fatalf("the session does not see its own row: %s", got)
		}
	}
}
