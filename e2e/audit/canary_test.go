// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package audit

import (
	"strings"
	"sync"
	"testing"

	"github.com/hyperiondb/hyperion-vault/cmd/canary"
)

// canaries are the values of all tests here, by their names.
var canaries sync.Map

// valueOf is a value of its own for each name, which must not be where noLeak looks.
func valueOf(name string) string {
	c, known := canaries.Load(name)
	if !known {
		c, _ = canaries.LoadOrStore(name, canary.New(name, "audit"))
	}
	return c.(*canary.Canary).Value() //nolint:forcetypeassert // nothing else is stored
}

// noLeak looks for all values, in any spelling, in what nodes have written: their logs
// and their own directories. That one would be seen there shows a name which is made as
// values are.
func (w *world) noLeak(t *testing.T) {
	t.Helper()
	shown := canary.New("a name", "audit")
	w.put(t, shown.Value())
	all := []*canary.Canary{shown}
	canaries.Range(func(_, c any) bool {
		all = append(all, c.(*canary.Canary)) //nolint:forcetypeassert // as in valueOf
		return true
	})
	scanner := canary.NewScanner(all)
	for _, n := range w.c.Nodes {
		for _, place := range []string{n.Log, n.AuditDir} {
			if err := scanner.Tree(place); err != nil {
				t.Fatal(err)
			}
		}
	}
	seen := false
	for _, f := range scanner.Findings {
		if f.Canary != shown {
			t.Errorf("leak: %s", f)
			continue
		}
		seen = seen || strings.HasPrefix(f.Place, w.c.PrimaryNode().AuditDir)
	}
	if !seen {
		t.Error("not even a name is found in the spool: nothing was tested")
	}
	t.Logf("%d values were looked for in %d files, %d bytes", len(all)-1, scanner.Files, scanner.Bytes)
}
