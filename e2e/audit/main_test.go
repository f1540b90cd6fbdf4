// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package audit breaks nodes, disks and servers while clients use secrets, and compares
// what those know with what vault.audit_log has in the end: a record for every value and
// every change, none twice, in chains with which audit verify finds nothing wrong.
package audit

import (
	"os"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

func TestMain(m *testing.M) {
	if status, done := cluster.Alone(); done {
		os.Exit(status)
	}
	m.Run()
}
