// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package e2e tests the built program with real servers, drivers and tools.
package e2e

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// shared is for tests that break nothing: one primary with its node, whose log
// shows every statement and parameter that the server was sent. Names of
// secrets, tables and roles begin with the test's own.
var shared *cluster.Cluster

func TestMain(m *testing.M) {
	cluster.Main(m, cluster.Spec{Settings: map[string]string{
		"log_statement":                     "all",
		"log_min_duration_statement":        "0",
		"log_parameter_max_length":          "-1",
		"log_parameter_max_length_on_error": "-1",
		"deadlock_timeout":                  "100ms",
	}}, &shared)
}
