// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package cluster_test

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

var shared *cluster.Cluster

func TestMain(m *testing.M) { cluster.Main(m, cluster.Spec{Standbys: 1}, &shared) }

// TestCluster reads on the standby's node what was put through the primary's.
func TestCluster(t *testing.T) {
	c := shared
	bob := c.AddUser(t, "bob", "first", "read")
	primary := c.Connect(t, c.DSN(0, c.User))
	if got := cluster.Text(t, primary, "SELECT vault.put_secret('first', 's3cr3t')::text"); got != "1" {
		t.Errorf("version: got %s, want 1", got)
	}
	c.WaitReplayed(t, 1)
	for i := range c.Nodes {
		conn := c.Connect(t, c.DSN(i, bob))
		if got := cluster.Text(t, conn, "SELECT vault.read_secret('first')"); got != "s3cr3t" {
			t.Errorf("%s: got %q, want s3cr3t", c.Nodes[i].Name, got)
		}
	}
	if got := c.Nodes[0].Metric(t, "hyperion_vault_seals_total", `outcome="ok"`); got != 1 {
		t.Errorf("seals: got %v, want 1", got)
	}
	if got := c.Nodes[0].Resident(t); got == 0 {
		t.Error("no resident memory")
	}
}
