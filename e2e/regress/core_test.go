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

// besideVault is core in the vault's own database.
func besideVault(name string) *suite {
	s := core()
	s.name, s.database = name, "regression"
	s.unfit = map[string]string{
		"event_trigger": "it prints all event triggers, and the extension has one",
		"opr_sanity":    "it prints all SECURITY DEFINER functions, and the extension has some",
		"type_sanity":   "it prints columns whose storage is not their type's, and the extension has one",
	}
	return s
}

// TestCoreBesideVault runs in the vault's own database.
func TestCoreBesideVault(t *testing.T) {
	besideVault("core regression suite beside the vault").check(t)
}

// TestCoreBesideStandby runs through the node beside a standby: a session moves only
// where the database has the vault.
func TestCoreBesideStandby(t *testing.T) {
	s := besideVault("core regression suite through a standby's node")
	s.node = 1
	s.different = map[string]string{
		"prepared_xacts": "a standby does not list the primary's prepared transactions",
		"privileges":     "a superuser sets what only a superuser may and becomes another role, which cannot take it to another server",
		"sysviews":       "it counts no WAL receiver, and a standby has one",
	}
	s.check(t)
}
