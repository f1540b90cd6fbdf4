// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package faults breaks clusters while clients work on them, and judges by the
// history of what the clients saw (e2e/history). Each fault is a function that
// breaks something and makes it whole again; `make e2e` does each once, `make
// robustness` one after the other in an order that a seed decides.
//
// To run one: go test -tags e2e ./e2e/faults -run 'TestSynchronous/disk' -v
package faults

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
