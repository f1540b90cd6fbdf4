// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e && regress

package regress

import "testing"

// TestIsolation is `make installcheck-prepared-txns` of src/test/isolation:
// sessions that wait for each other, watched by one that asks the server who
// waits, and ended by cancels.
func TestIsolation(t *testing.T) {
	s := &suite{
		name: "isolation suite", program: "src/test/isolation/pg_isolation_regress", dir: "isolation", schedule: "isolation_schedule",
		extra: []string{"prepared-transactions", "prepared-transactions-cic"},
	}
	s.check(t)
}
