// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package e2e tests what the vault promises, on real servers: nothing leaks,
// nothing forged opens, nothing sent brings the node down, and what was dumped
// opens again.
package e2e

import (
	"maps"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// shared writes down all that its servers and nodes see: the leak test looks
// through it.
var shared *cluster.Cluster

func TestMain(m *testing.M) {
	settings := cluster.LogAll()
	maps.Copy(settings, map[string]string{
		"log_min_messages":          "debug1",
		"wal_compression":           "off", // or the scanner would not see a value in a page image
		"default_toast_compression": "pglz",
	})
	cluster.Main(m, cluster.Spec{
		Standbys: 1, Settings: settings,
		NodeEnv: map[string]string{"VAULT_LOG_LEVEL": "debug"},
	}, &shared)
}
