// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e && matrix

// Package matrix tests what differs between PostgreSQL's majors, and between the
// versions of the extension and of the program. `make matrix` runs it, the other
// end-to-end tests and the extension's suites against each major, and makes
// docs/COMPATIBILITY.md of what they said.
package matrix

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// shared is a primary and a standby that write down all that they are sent.
var shared *cluster.Cluster

func TestMain(m *testing.M) {
	settings := cluster.LogAll()
	settings["max_prepared_transactions"] = "2"
	cluster.Main(m, cluster.Spec{Standbys: 1, Settings: settings}, &shared)
}

// check names the line of the document that a test is the proof of.
func check(t *testing.T, line string) {
	t.Helper()
	t.Attr("check", line)
}

// seen says in the document what this major does, where majors differ.
func seen(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Attr("seen", fmt.Sprintf(format, args...))
}

// major is the server's.
func major(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(cluster.Text(t, shared.Connect(t, shared.SuperDSN(0)), "SHOW server_version_num"))
	if err != nil {
		t.Fatal(err)
	}
	return n / 10000
}

func dial(t *testing.T, dsn string) *rawpg.Conn {
	t.Helper()
	c, err := rawpg.Dial(t.Context(), dsn)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() }) // the test is over
	return c
}
