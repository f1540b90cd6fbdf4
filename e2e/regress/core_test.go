// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e && regress

package regress

import "testing"

// core is `make installcheck-parallel` of src/test/regress.
func core() *suite {
	return &suite{
		name: "core regression suite", program: "src/test/regress/pg_regress", dir: "regress", schedule: "parallel_schedule",
		options: []string{"--max-concurrent-tests=20"},
	}
}

// TestCore runs in a database that the suite makes, which has no vault.
func TestCore(t *testing.T) { core().check(t) }

// TestCoreBesideVault runs in the vault's own database.
func TestCoreBesideVault(t *testing.T) {
	s := core()
	s.name, s.database = "core regression suite beside the vault", "regression"
	s.unfit = map[string]string{
		"event_trigger": "it prints all event triggers, and the extension has one",
		"opr_sanity":    "it prints all SECURITY DEFINER functions, and the extension has some",
		"type_sanity":   "it prints columns whose storage is not their type's, and the extension has one",
	}
	s.check(t)
}
