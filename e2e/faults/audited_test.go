// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package faults

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/history"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// done is what leaves records.
type done struct {
	action audit.Action
	name   string
}

// A tally is how often it was asked for, how often the client knows it to be done, and
// how often it does not know. Of what is known, versions are how often each was stored
// or shown, where the client was told which.
type tally struct {
	asked, known, unknown int
	versions              map[int]int
}

var actions = map[history.Kind]audit.Action{
	history.Read: audit.ActionRead, history.Put: audit.ActionUpdate, history.Update: audit.ActionUpdate,
	history.Create: audit.ActionCreate, history.Delete: audit.ActionDelete,
}

// tallies counts what clients have seen.
func tallies(ops []history.Op) map[done]*tally {
	all := map[done]*tally{}
	for i := range ops {
		op := &ops[i]
		for _, action := range leaves(op) {
			of := done{action, op.Name}
			if all[of] == nil {
				all[of] = &tally{versions: map[int]int{}}
			}
			all[of].asked++
			switch {
			case op.Outcome == history.OK && !op.Missing:
				all[of].known++
				if version := op.Shown(); version != 0 && action == actions[op.Kind] {
					all[of].versions[version]++
				}
			case op.Outcome == history.Unknown:
				all[of].unknown++
			}
		}
	}
	return all
}

// leaves is what an operation is recorded as. A secret that REST makes gets its grace
// period by a change of its own.
func leaves(op *history.Op) []audit.Action {
	switch action := actions[op.Kind]; {
	case action == "":
		return nil
	case op.REST && op.Kind == history.Create:
		return []audit.Action{action, audit.ActionUpdate}
	default:
		return []audit.Action{action}
	}
}

// audited judges the audit by what the clients have seen, when all is shipped.
func (w *world) audited(t *testing.T) {
	t.Helper()
	var logs []string
	for _, n := range w.c.Nodes {
		logs = append(logs, n.Log)
		eventually(t, n.Name+"'s records in the vault", func() bool {
			last := n.Metric(t, "hyperion_vault_audit_last_record")
			return last > 0 && n.Metric(t, "hyperion_vault_audit_shipped_record") == last
		})
	}
	a := w.c.Audit(t, logs...)
	all := tallies(w.run.Ops())
	for _, f := range a.Findings {
		c := a.Changes[f.Change]
		if f.Kind == audit.NotThroughNode && c.SessionRole == w.c.Superuser {
			continue // newWorld's grants, at the server's own port
		}
		if of := all[done{audit.Action(c.Action), c.Subject}]; f.Kind == audit.NotThroughNode && of != nil && of.unknown > 0 {
			of.unknown-- // a node was lost before it, and its client, heard of it
			continue
		}
		t.Errorf("found: %v", f)
	}
	records := map[done][]*audit.Row{} // but of lists, which a read asks for as well
	for i := range a.Rows {
		if r := &a.Rows[i]; r.Actor == w.user && r.Action != audit.ActionList && r.Outcome == audit.OutcomeOK && strings.HasPrefix(r.Secret, w.prefix+"/") {
			of := done{r.Action, r.Secret}
			records[of] = append(records[of], r)
		}
	}
	for of, c := range all {
		if text := c.misses(records[of]); text != "" {
			t.Errorf("%v: %s", of, text)
			for _, r := range records[of] {
				t.Logf("node %s, record %d at %v: over %s, version %d, change %d", r.Node, r.Seq, r.At, r.Face, r.Version, r.Change)
			}
		}
		delete(records, of)
	}
	for of, rows := range records {
		t.Errorf("%v: %d records of what nobody has asked for", of, len(rows))
	}
	t.Logf("%d records, %d changes compared, notes %v", len(a.Rows), a.Compared, a.Notes)
}

// misses is what is wrong with the records of all that a tally counts: each version that
// a client knows has its records, and what is left is no more than what ended otherwise.
func (c *tally) misses(rows []*audit.Row) string {
	if n := len(rows); n < c.known || n > c.asked {
		return fmt.Sprintf("%d records, want at least the %d known to be done, at most the %d asked for", n, c.known, c.asked)
	}
	there := map[int]int{}
	for _, r := range rows {
		there[int(r.Version)]++
	}
	for version, known := range c.versions {
		if there[version] < known {
			return fmt.Sprintf("%d records of version %d, want at least the %d known to be done", there[version], version, known)
		}
	}
	return ""
}
