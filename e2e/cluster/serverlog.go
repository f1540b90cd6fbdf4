// SPDX-License-Identifier: GPL-3.0-or-later

package cluster

import (
	"crypto/rand"
	"os"
	"strings"
	"testing"
)

// ServerLog is the i-th server's log, with all that it has run by now. Its
// Settings must log every statement with its parameters.
func (c *Cluster) ServerLog(tb testing.TB, i int) (log string) {
	tb.Helper()
	marker := "marker " + rand.Text()
	Exec(tb, c.Connect(tb, c.SuperDSN(i)), "SELECT $1::text", marker)
	Eventually(tb, "the server's log", func() bool {
		text, err := os.ReadFile(c.Nodes[i].ServerLogPath)
		log = string(text)
		return err == nil && strings.Contains(log, marker)
	})
	return log
}

// NeverSent checks that no server has seen the values so far.
func (c *Cluster) NeverSent(tb testing.TB, values ...string) {
	tb.Helper()
	for i, n := range c.Nodes {
		log := c.ServerLog(tb, i)
		for _, v := range values {
			if i := strings.Index(log, v); i >= 0 {
				start := strings.LastIndexByte(log[:i], '\n') + 1
				line, _, _ := strings.Cut(log[start:], "\n")
				tb.Errorf("the server of %s was sent %q: %s", n.Name, v, line)
			}
		}
	}
}
