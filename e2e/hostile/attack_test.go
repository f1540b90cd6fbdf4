// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package hostile

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/load"
)

// heldBytes is what main_test.go sets: low, so that the bound means something.
const heldBytes = 64 << 20

// Clients that behave must not notice any of it: each of their answers is right,
// none of their log-ins is refused, and they get on.
func TestAttacks(t *testing.T) {
	n := shared.Nodes[0]
	fleet := load.Start(t.Context(), load.Spec{DSN: shared.DSN(0, shared.User), Clients: 8, Secrets: 4, Prefix: "hostile/legit", Lifetime: 10})
	defer fleet.Stop()
	tls := load.Start(t.Context(), load.Spec{
		DSN:     strings.Replace(shared.DSN(0, shared.User), "sslmode=disable", "sslmode=require", 1),
		Clients: 4, Secrets: 2, Prefix: "hostile/tls", Lifetime: 10,
	})
	defer tls.Stop()
	memoryBound := MemoryBound(heldBytes, 100+1000)
	goroutines := n.Metric(t, "go_goroutines")
	for _, a := range slices.Concat(Strangers(2000), Insiders()) {
		t.Run(a.Name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- a.Run(ctx, target(t)) }()
			if sign, ok := signs[a.Name]; ok {
				reached(t, "the attack to be felt", func() bool { return sign(t, n) })
			}
			for _, f := range []*load.Fleet{fleet, tls} {
				from := f.Pieces.Load()
				reached(t, "the clients that behave", func() bool { return f.Pieces.Load() > from+60 || f.Err() != nil })
			}
			stop()
			if err := <-ended; err != nil {
				t.Errorf("the attack: %v", err)
			}
			for _, f := range []*load.Fleet{fleet, tls} {
				if err := f.Err(); err != nil {
					t.Fatalf("the clients that behave: %v", err)
				}
			}
			if peak := n.Peak(t); peak > memoryBound {
				t.Errorf("the node's memory has been at %d MB, more than %d", peak>>20, memoryBound>>20)
			}
			t.Logf("resident: now %d MB, at most %d", n.Resident(t)>>20, n.Peak(t)>>20)
		})
	}
	fleet.Stop()
	tls.Stop()
	quiet(t)
	if got := n.Metric(t, "hyperion_vault_internal_errors_total"); got != 0 {
		t.Errorf("%v internal errors", got)
	}
	if got := n.Metric(t, "hyperion_vault_held_bytes"); got != 0 {
		t.Errorf("%v bytes are held for nobody", got)
	}
	cluster.Eventually(t, "goroutines to end", func() bool { return n.Metric(t, "go_goroutines") < goroutines+40 })
}

// signs tell that an attack has arrived where it is meant to.
var signs = map[string]func(testing.TB, *cluster.Node) bool{
	"silent connections": func(tb testing.TB, n *cluster.Node) bool {
		tb.Helper()
		return n.Metric(tb, "hyperion_vault_limited_total", `limit="pending"`) > 1000
	},
	"wrong cancel keys": func(tb testing.TB, n *cluster.Node) bool {
		tb.Helper()
		return n.Metric(tb, "hyperion_vault_limited_total", `limit="cancel"`) > 0
	},
	"wrong passwords": func(tb testing.TB, n *cluster.Node) bool {
		tb.Helper()
		return n.Metric(tb, "hyperion_vault_logins_total", `outcome="refused"`) > 200
	},
}
