// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e && regress

package regress

import "testing"

// With the build tag regress, all of it runs, and the rows of the table are
// written.
const (
	whole           = true
	coreGroups      = 0
	isolationGroups = 0
)

var isolationExtra = []string{"prepared-transactions", "prepared-transactions-cic"}

// TestCoreBesideVault runs in the vault's own database.
func TestCoreBesideVault(t *testing.T) {
	s := core()
	s.name, s.database = "core regression suite beside the vault", "regression"
	s.check(t)
}
