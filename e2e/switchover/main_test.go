// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package switchover has a cluster of Patroni's change its primary while clients
// write: through the node beside a standby, through HAProxy with Patroni's health
// checks, and direct. It holds what they see to what drivers try again, and no
// acknowledged transaction may be lost. `make bench-switchover` measures, with
// many rounds, and writes a part of docs/BENCHMARKS.md.
package switchover

import (
	"flag"
	"os"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

var (
	rounds = flag.Int("rounds", 0, "rounds of each fault; 0: one switchover")
	write  = flag.Bool("document", false, "write docs/BENCHMARKS.md and docs/switchover.json")
)

func TestMain(m *testing.M) {
	if status, done := cluster.Alone(); done {
		os.Exit(status)
	}
	m.Run()
}
