// SPDX-License-Identifier: GPL-3.0-or-later

package cluster

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// Reread gives the node another file of settings, and returns when it has read that.
func (n *Node) Reread(tb testing.TB, settings string) {
	tb.Helper()
	reread(tb, n.PID, n.Config, n.Log, settings)
}

// Reread gives the node another file of settings, and returns when it has read that.
func (l *Loose) Reread(tb testing.TB, settings string) {
	tb.Helper()
	reread(tb, l.PID, l.Config, l.Log, settings)
}

func reread(tb testing.TB, pid int, config, log, settings string) {
	tb.Helper()
	times := func() int {
		text, err := os.ReadFile(log)
		if err != nil {
			tb.Fatal(err)
		}
		return strings.Count(string(text), "the settings were read again")
	}
	if err := os.WriteFile(config, []byte(settings), 0o600); err != nil { // its owner stays
		tb.Fatal(err)
	}
	before := times()
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		tb.Fatal(err)
	}
	Eventually(tb, "the settings to be read again", func() bool { return times() > before })
}
