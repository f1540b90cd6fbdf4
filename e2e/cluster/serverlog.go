// SPDX-License-Identifier: GPL-3.0-or-later

package cluster

import (
	"crypto/rand"
	"os"
	"strings"
	"testing"
)

// NeverSent checks that the primary has not seen the values so far. Its Settings
// must log every statement with its parameters.
func (c *Cluster) NeverSent(tb testing.TB, values ...string) {
	tb.Helper()
	marker := "marker " + rand.Text()
	Exec(tb, c.Connect(tb, c.SuperDSN(0)), "SELECT $1::text", marker)
	var log string
	Eventually(tb, "the server's log", func() bool {
		text, err := os.ReadFile(c.Nodes[0].ServerLogPath)
		log = string(text)
		return err == nil && strings.Contains(log, marker)
	})
	for _, v := range values {
		if i := strings.Index(log, v); i >= 0 {
			start := strings.LastIndexByte(log[:i], '\n') + 1
			line, _, _ := strings.Cut(log[start:], "\n")
			tb.Errorf("the server was sent %q: %s", v, line)
		}
	}
}
