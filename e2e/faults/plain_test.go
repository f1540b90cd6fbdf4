// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package faults

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// A fault breaks something on a cluster with clients at work, looks at what must
// hold meanwhile, and makes it whole again.
type fault struct {
	name string
	do   func(*testing.T, *world)
}

// failovers need nothing but a Manager.
var failovers = []fault{
	{"kill", killPrimary},
	{"switchover", switchover},
}

// plainFaults need a server that nobody else looks after.
var plainFaults = slices.Concat(failovers, []fault{{"freeze", freezePrimary}}, serverFaults)

// logAll has servers write down what they are sent, so that it can be searched.
var logAll = map[string]string{"log_statement": "all", "log_parameter_max_length": "-1", "log_parameter_max_length_on_error": "-1"}

// manyClients is for those of the long form: each has two sessions at times.
var manyClients = map[string]string{"max_connections": "500", "shared_buffers": "64MB"}

// TestSynchronous does each fault once on a cluster that a person looks after, and
// in which a commit waits for a standby: nothing that was acknowledged is lost.
func TestSynchronous(t *testing.T) { //nolint:tparallel // faults come one after the other
	t.Parallel()
	cluster.NeedAlone(t)
	plainWorld(t, true, logAll).all(t, slices.Concat(plainFaults, nodeFaults, networkFaults))
}

// TestFailovers changes roles where a commit waits for nobody, so that what is lost
// is what PostgreSQL had not replicated, and where Patroni decides. What takes
// Patroni longer is left to `make robustness`.
func TestFailovers(t *testing.T) { //nolint:tparallel // faults come one after the other
	t.Parallel()
	cluster.NeedAlone(t)
	t.Run("asynchronous", func(t *testing.T) {
		plainWorld(t, false, logAll).all(t, append([]fault{{"freeze", freezePrimary}}, failovers...))
	})
	t.Run("patroni", func(t *testing.T) { patroniWorld(t, true, logAll).all(t, failovers) })
}

func plainWorld(t *testing.T, synchronous bool, settings map[string]string) *world {
	t.Helper()
	all := cluster.PlainSettings()
	maps.Copy(all, settings)
	c := cluster.Start(t, cluster.Spec{Standbys: 2, Breakable: true, Settings: all})
	keepLogsOf(t, c)
	if synchronous {
		c.Synchronous(t)
	}
	return newWorld(t, c, cluster.Plain{Cluster: c}, synchronous)
}

// all does faults one after the other, while the same clients work, and judges
// what those have seen, and the audit by it.
func (w *world) all(t *testing.T, faults []fault) {
	t.Helper()
	w.begin(t, strings.ReplaceAll(t.Name(), "/", "-"), 0)
	for _, f := range faults {
		from := w.log.Now()
		if !t.Run(f.name, func(t *testing.T) { f.do(t, w) }) {
			return // what it has broken may be broken still
		}
		t.Logf("%s: from %.3fs to %.3fs", f.name, from.Seconds(), w.log.Now().Seconds())
	}
	w.judge(t)
	w.audited(t)
}
