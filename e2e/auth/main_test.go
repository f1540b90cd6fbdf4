// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package auth tests how clients get in, and how they are told why not.
package auth

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

var shared *cluster.Cluster

func TestMain(m *testing.M) {
	cluster.Main(m, cluster.Spec{
		Listen:  "0.0.0.0", // with a certificate
		NodeEnv: map[string]string{"VAULT_LOG_LEVEL": "debug"},
	}, &shared)
}
