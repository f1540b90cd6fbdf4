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
	test func(t *testing.T)
}{
	{"put", put},
	{"read text", readText},
	{"read binary", readBinary},
	{"prepare", prepare},
	{"pipeline", pipeline},
	{"batch", batch},
	{"null", null},
	{"cursor", cursors},
	{"copy in", copyIn},
	{"copy out", copyOut},
	{"transaction", transactions},
	{"savepoint", savepoints},
	{"error", refusals},
	{"cancel", cancellation},
	{"notify", notifications},
	{"large object", largeObjects},
}

// TestPgx runs each feature in all of the driver's modes.
func TestPgx(t *testing.T) {
	version, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{slice .Version 1}}", "github.com/jackc/pgx/v5").Output()
	if err != nil {
		t.Fatal(err)
	}
	row := report.Open(t, report.Drivers, "pgx v5", strings.TrimSpace(string(version)))
	for _, feature := range features {
		row.Run(t, feature.name, feature.test)
	}
}
