// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tools

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/report"
)

var processed = regexp.MustCompile(`number of transactions actually processed: (\d+)/(\d+)`)

// pgbench runs it with two clients that must do want transactions.
func pgbench(t *testing.T, env []string, want int, args ...string) {
	t.Helper()
	out := cluster.Output(t, env, cluster.Bin(t, "pgbench"), append([]string{"-n", "-c", "2"}, args...)...)
	m := processed.FindStringSubmatch(out)
	if m == nil || m[1] != strconv.Itoa(want) {
		t.Errorf("pgbench %s: got %s, want %d transactions", strings.Join(args, " "), out, want)
	}
}

// TestPgbench runs the server's own benchmark through the node, with all three
// of its protocols and with scripts of secrets.
func TestPgbench(t *testing.T) {
	row := report.Open(t, report.Tools, "pgbench", word(version(t, cluster.Bin(t, "pgbench"), "--version"), 2))
	env := node(t)
	cluster.Output(t, env, cluster.Bin(t, "pgbench"), "-i", "-s", "1", "-q")
	reading := write(t, "reading", "\\set n random(1, 4)\nSELECT vault.read_secret('bench/' || :n) AS pw;\nSELECT 1;\n")
	putting := write(t, "putting", "BEGIN;\nSELECT vault.put_secret('bench/1', 'bench canary') AS v \\gset\nSELECT vault.read_secret('bench/1', :v);\nEND;\n")
	pipeline := write(t, "pipeline", "\\startpipeline\nSELECT 1;\nSELECT vault.read_secret('bench/2');\nSELECT vault.put_secret('bench/2', 'bench canary');\nSELECT 2;\n\\endpipeline\n")
	conn := shared.Connect(t, shared.DSN(0, shared.User))
	for n := 1; n <= 4; n++ {
		cluster.Exec(t, conn, "SELECT vault.put_secret($1, 'bench canary')", fmt.Sprintf("bench/%d", n))
	}
	for _, mode := range []string{"simple", "extended", "prepared"} {
		row.Run(t, "`-M "+mode+"`", func(t *testing.T) {
			pgbench(t, env, 40, "-M", mode, "-t", "20")
			pgbench(t, env, 100, "-M", mode, "-S", "-t", "50")
			pgbench(t, env, 40, "-M", mode, "-f", reading, "-t", "20")
			pgbench(t, env, 20, "-M", mode, "-f", putting, "-t", "10")
		})
	}
	row.Run(t, "`\\startpipeline`", func(t *testing.T) {
		pgbench(t, env, 20, "-M", "extended", "-f", pipeline, "-t", "10")
		pgbench(t, env, 20, "-M", "prepared", "-f", pipeline, "-t", "10")
	})
	row.Run(t, "`-C`", func(t *testing.T) {
		pgbench(t, env, 10, "-C", "-S", "-t", "5")
		pgbench(t, env, 10, "-C", "-M", "prepared", "-f", reading, "-t", "5")
	})
	row.Run(t, "`-j`", func(t *testing.T) {
		pgbench(t, env, 80, "-c", "8", "-j", "4", "-M", "prepared", "-f", reading, "-f", putting, "-t", "10")
	})
	shared.NeverSent(t, "bench canary")
}
