// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tools

import (
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/report"
)

// TestPgcli types into pgcli, whose completion asks the catalogue a lot beside.
func TestPgcli(t *testing.T) {
	line := version(t, "pgcli", "--version")
	row := report.Open(t, report.Tools, "pgcli", word(line, 1))
	cmd := cluster.Command(t, node(t), "pgcli", "--less-chatty")
	cmd.Stdin = strings.NewReader(strings.Join([]string{
		"SELECT vault.put_secret('pgcli/pw', 'pgcli ' || 'canary');", "SELECT vault.put_secret('pgcli/pw', 'pgcli canary');",
		"SELECT upper('answer'), vault.read_secret('pgcli/pw') AS pw;", "\\d vault.secret_versions", "SELECT vault.read_secret('pgcli/none');", "SELECT upper('after');", "\\q", "",
	}, "\n"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, c := range []struct{ feature, want string }{
		{"put and read", "| ANSWER | pgcli canary |"},
		{"`\\d`", "secret_versions_pkey"},
		{"errors", "secret \"pgcli/none\" does not exist or is not yours to use"},
		{"a refusal", "the value of vault.put_secret() must be a string constant or a parameter"},
		{"goes on after them", "| AFTER |"},
	} {
		row.Run(t, c.feature, func(t *testing.T) {
			if !strings.Contains(string(out), c.want) {
				t.Errorf("no %q in\n%s", c.want, out)
			}
		})
	}
	shared.NeverSent(t, "pgcli canary")
}
