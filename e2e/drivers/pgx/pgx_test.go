// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package pgx

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/report"
)

var features = []struct {
	name string
	test func(n node, t *testing.T)
}{
	{"put", node.put},
	{"read text", node.readText},
	{"read binary", node.readBinary},
	{"prepare", node.prepare},
	{"pipeline", node.pipeline},
	{"batch", node.batch},
	{"null", node.null},
	{"cursor", node.cursors},
	{"copy in", node.copyIn},
	{"copy out", node.copyOut},
	{"transaction", node.transactions},
	{"savepoint", node.savepoints},
	{"error", node.refusals},
	{"cancel", node.cancellation},
	{"notify", node.notifications},
	{"large object", node.largeObjects},
}

// TestPgx runs each feature in all of the driver's modes, through the node beside
// the primary and through the one beside the standby.
func TestPgx(t *testing.T) {
	version, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{slice .Version 1}}", "github.com/jackc/pgx/v5").Output()
	if err != nil {
		t.Fatal(err)
	}
	shared.Activity(t)
	shared.WaitReplayed(t, 1)
	for i, n := range shared.Nodes {
		t.Run(string(n.Role), func(t *testing.T) {
			row := report.Open(t, report.Drivers, "pgx v5", strings.TrimSpace(string(version))).Beside(string(n.Role))
			for _, feature := range features {
				row.Run(t, feature.name, func(t *testing.T) { feature.test(node(i), t) })
			}
		})
	}
}
