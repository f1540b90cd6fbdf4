// SPDX-License-Identifier: GPL-3.0-or-later

package main

import "context"

// checkHBA says whether the rules for clients' addresses can be had, and names
// the lines that let nobody in through a node.
func (n *node) checkHBA(ctx context.Context, l *checklist) {
	if n.config.ignoreHBA {
		l.note("pg_hba", "not applied to the addresses of clients (VAULT_PROXY_HBA=off)")
		return
	}
	rules, err := n.vault.HBA(ctx)
	switch {
	case err != nil:
		what, remedy := explain(err)
		l.fault("pg_hba", what, remedy)
		return
	case rules == nil:
		l.note("pg_hba", "not applied to the addresses of clients: the extension is older than 1.1")
		l.note("", "→ ALTER EXTENSION hyperion_vault UPDATE")
		return
	}
	unserved := rules.Unserved()
	for _, u := range unserved {
		l.note("pg_hba", "%s lets nobody in through a node: %s", u.Line, u.Reason)
	}
	if len(unserved) > 0 {
		l.note("", "→ whom such a line matches is refused: put one with scram-sha-256 before it where nodes shall serve them")
		return
	}
	l.ok("pg_hba", "a node can apply every line to the addresses of its clients")
}
