// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package tls tests encryption on both legs: who may say what before it, whom a
// node trusts, and what a log-in is bound to.
package tls

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

var shared *cluster.Cluster

func TestMain(m *testing.M) { cluster.Main(m, cluster.Spec{Standbys: 1}, &shared) }
