// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package awskms

import (
	"regexp"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestRotationWithoutKMS: while the KMS refuses the key a rotation fails, again and
// again, for all to see; afterwards it is done, once.
func TestRotationWithoutKMS(t *testing.T) {
	conn, super := shared.Connect(t, shared.DSN(0, shared.User)), shared.Connect(t, shared.SuperDSN(0))
	cluster.Text(t, conn, "SELECT vault.create_secret('rotated', 'automatic', rotation_interval => '1 day')::text")
	suffering(refused(400, "AccessDeniedException", "User: arn:aws:iam::111122223333:user/node is not authorized"))(t)
	defer healed(t)
	cluster.Exec(t, conn, "SELECT vault.update_secret('rotated', next_rotation_at => now())")
	cluster.Exec(t, super, "SELECT vault.tick()")
	const job = "SELECT coalesce((SELECT j.error || ' ' || j.attempts FROM vault.rotation_jobs j JOIN vault.secrets s ON s.id = j.secret_id WHERE s.name = 'rotated'), '')"
	cluster.Eventually(t, "two attempts that have failed", func() bool {
		return cluster.Text(t, super, job) == "the KMS did not serve this node (KMS: access denied.) 2"
	})
	node := shared.Nodes[0]
	cluster.Eventually(t, "metrics to tell", func() bool {
		return node.Metric(t, "hyperion_vault_rotation_jobs", `state="failing"`) == 1 && node.Metric(t, "hyperion_vault_rotation_jobs", `state="open"`) == 1 &&
			node.Metric(t, "hyperion_vault_rotations_total", `outcome="kms"`) >= 2
	})
	// Whether a node has claimed it depends on the moment.
	if got, _ := node.Status(t); !regexp.MustCompile(`(?m)^rotation +1 due, [01] claimed, 1 secrets failing$`).MatchString(got) {
		t.Errorf("status: %s", got)
	}
	healed(t)
	cluster.Eventually(t, "the rotation", func() bool {
		return cluster.Text(t, super, "SELECT current_version::text FROM vault.secrets WHERE name = 'rotated'") == "2"
	})
	cluster.Eventually(t, "metrics to be well", func() bool { return node.Metric(t, "hyperion_vault_rotation_jobs") == 0 })
	cluster.Exec(t, super, "SELECT vault.tick()")
	if got := cluster.Text(t, super, "SELECT current_version || ' ' || (SELECT count(*) FROM vault.rotation_jobs WHERE completed_at IS NULL) FROM vault.secrets WHERE name = 'rotated'"); got != "2 0" {
		t.Errorf("afterwards, version and open jobs: got %s", got)
	}
}
