// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package reporting

import (
	"regexp"
	"strings"
	"testing"
)

// linePrefix begins each message of the servers' logs with the session's name,
// the process and the SQLSTATE. All lines of a message but its first begin with a
// tab.
const linePrefix = "@%a@%p@%e@ "

// A count is what the servers ran of some sessions: the first lines of the texts.
// Several statements of one Query are one text.
type count struct {
	standby, primary []string
	moves            int
}

var (
	statement = regexp.MustCompile(`^LOG:  (?:statement|execute [^:]*): (.*)`)
	// own are the node's statements in a client's session: under names of its own,
	// what it asks at each log-in, and what makes a session anew.
	own = regexp.MustCompile(`^LOG:  (?:execute _hv_[0-9a-f]+/|statement: (?:SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL jit = off;SELECT coalesce\(t\.oid, 0\),|RESET SESSION AUTHORIZATION;))`)
)

// counted runs something and returns what the servers have run meanwhile, in
// sessions of the name. Nothing else may move.
func counted(t *testing.T, session string, run func()) (c count) {
	t.Helper()
	moves := func(labels ...string) float64 {
		return shared.Nodes[1].Metric(t, "hyperion_vault_moves_total", labels...)
	}
	from := [2]int{len(shared.ServerLog(t, 0)), len(shared.ServerLog(t, 1))}
	// That a standby is behind for a moment, so that a session comes back later, is as
	// it should be.
	failed := func() float64 {
		return moves(`to="primary"`) - moves(`to="primary"`, `outcome="ok"`) + moves(`to="standby"`, `outcome="broken"`)
	}
	before, failedBefore := moves(), failed()
	run()
	c.moves = int(moves() - before)
	if stayed := failed() - failedBefore; stayed != 0 {
		t.Errorf("%v moves did not come about", stayed)
	}
	c.primary = ran(shared.ServerLog(t, 0)[from[0]:], session)
	c.standby = ran(shared.ServerLog(t, 1)[from[1]:], session)
	return c
}

// ran reads a log. What a standby has refused it did not run.
func ran(log, session string) (texts []string) {
	latest := map[string]int{} // of each process, where its text is
	for line := range strings.Lines(log) {
		rest, found := strings.CutPrefix(line, "@"+session+"@")
		if !found {
			continue
		}
		process, rest, _ := strings.Cut(rest, "@")
		state, message, _ := strings.Cut(rest, "@ ")
		if m := statement.FindStringSubmatch(message); m != nil && !own.MatchString(message) {
			latest[process] = len(texts)
			texts = append(texts, m[1])
		}
		if at, ok := latest[process]; ok && state == "25006" && strings.HasPrefix(message, "ERROR:") {
			texts[at] = ""
		}
	}
	kept := texts[:0]
	for _, text := range texts {
		if text != "" {
			kept = append(kept, text)
		}
	}
	return kept
}
