// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package monitoring

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestRules: promtool takes the rules, and each alert fires when rules_test.yml says so.
func TestRules(t *testing.T) {
	dir, err := filepath.Abs(filepath.Join(root, filepath.Dir(rulesFile)))
	if err != nil {
		t.Fatal(err)
	}
	cluster.Output(t, nil, "promtool", "check", "rules", "--lint-fatal", filepath.Join(dir, filepath.Base(rulesFile)))
	cluster.Output(t, nil, "promtool", "test", "rules", filepath.Join(dir, filepath.Base(rulesTest)))
}

// TestExpressions: promtool can parse what the dashboard asks.
func TestExpressions(t *testing.T) {
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	n := 0
	for panel, expressions := range readDashboard(t).expressions() {
		for _, expr := range expressions {
			n++
			fmt.Fprintf(&rules, "      - {record: 'panel:%d', labels: {panel: %q}, expr: %q}\n", n, panel, expr)
		}
	}
	path := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(path, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cluster.Output(t, nil, "promtool", "check", "rules", path)
}
