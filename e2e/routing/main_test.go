// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package routing tests sessions through the node beside a standby: what goes to
// the primary, what stays, and that a session is the same there.
package routing

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

var shared *cluster.Cluster

func TestMain(m *testing.M) {
	cluster.Main(m, cluster.Spec{Standbys: 1, Settings: cluster.LogAll(), NodeEnv: map[string]string{"VAULT_MAX_QUERY_BYTES": "1048576"}}, &shared)
}

// schema is what the tests write to; each call makes it anew.
func schema(t *testing.T) {
	t.Helper()
	super := shared.Connect(t, shared.SuperDSN(0))
	for _, sql := range []string{
		"DROP SCHEMA IF EXISTS r CASCADE", "CREATE SCHEMA r",
		"CREATE TABLE r.t (id bigint GENERATED ALWAYS AS IDENTITY, v text)",
		"CREATE SEQUENCE r.q",
		`CREATE FUNCTION r.w(v text) RETURNS text LANGUAGE sql AS 'INSERT INTO r.t (v) VALUES (v) RETURNING v'`,
		"GRANT ALL ON SCHEMA r TO PUBLIC", "GRANT ALL ON ALL TABLES IN SCHEMA r TO PUBLIC", "GRANT ALL ON ALL SEQUENCES IN SCHEMA r TO PUBLIC",
	} {
		cluster.Exec(t, super, sql)
	}
	shared.WaitReplayed(t, 1)
}

// standby is a session through the node beside the standby.
func standby(t *testing.T) *rawpg.Conn {
	t.Helper()
	return dial(t, shared.DSN(1, shared.User))
}

func dial(t *testing.T, dsn string) *rawpg.Conn {
	t.Helper()
	c, err := rawpg.Dial(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// where is the server that the session is at.
func where(t *testing.T, c *rawpg.Conn, primary bool) {
	t.Helper()
	want := "T(s:16) D(t) C(SELECT_1) Z(I)"
	if primary {
		want = "T(s:16) D(f) C(SELECT_1) Z(I)"
	}
	c.Ask(t, want, rawpg.Query("SELECT pg_is_in_recovery() AS s"))
}

// rows is how many rows of the table hold the value.
func rows(t *testing.T, v string) string {
	t.Helper()
	return cluster.Text(t, shared.Connect(t, shared.SuperDSN(0)), "SELECT count(*)::text FROM r.t WHERE v = $1", v)
}
