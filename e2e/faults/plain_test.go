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
	{"freeze", freezePrimary},
	{"switchover", switchover},
}

// logAll has servers write down what they are sent, so that it can be searched.
var logAll = map[string]string{"log_statement": "all", "log_parameter_max_length": "-1", "log_parameter_max_length_on_error": "-1"}

// TestPlain does each fault once on a cluster that a person looks after.
func TestPlain(t *testing.T) {
	for _, synchronous := range []bool{true, false} {
		name := "asynchronous"
		if synchronous {
			name = "synchronous"
		}
		t.Run(name, func(t *testing.T) {
			w := plainWorld(t, synchronous, logAll)
			faults := failovers
			if synchronous {
				faults = slices.Concat(failovers, nodeFaults, networkFaults, serverFaults)
			}
			for _, f := range faults {
				if !t.Run(f.name, func(t *testing.T) { w.once(t, f) }) {
					break // what it has broken may be broken still
				}
			}
		})
	}
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

// once is a work of its own with one fault in it.
func (w *world) once(t *testing.T, f fault) {
	t.Helper()
	w.begin(t, strings.ReplaceAll(t.Name(), "/", "-"), 0)
	f.do(t, w)
	w.judge(t)
}
