// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package audit

import (
	"flag"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	chain "github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

var kills = flag.Int("node-kills", 12, "how often TestKilled kills its node, in either mode")

// TestKilled: a node that is killed over and over, at some moment of its work, loses no
// record of what a client received, and writes none twice.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"batch", "always"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, cluster.Spec{NodeEnv: map[string]string{"VAULT_AUDIT_SYNC": mode}})
			n := w.c.Nodes[0]
			l := w.startLoad(t, 6)
			for range *kills {
				more := l.received() + 20 + rand.IntN(300)
				cluster.Eventually(t, "clients at work", func() bool { return l.received() >= more })
				if err := n.KillNode(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := n.StartNode(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			l.end()
			w.arrived(t, n)
			all := w.soundAfter(t, l, n.Log)
			l.compare(t, all)
			starts := 0
			for _, r := range all.Rows {
				if r.Action == chain.ActionStart && strings.HasPrefix(r.Reason, "killed") {
					starts++
				}
			}
			if starts != *kills {
				t.Errorf("%d starts after a kill are recorded, want %d", starts, *kills)
			}
		})
	}
}
