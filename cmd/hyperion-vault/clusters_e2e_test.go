// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package main

import (
	"net"
	"testing"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
)

// startCluster starts one that ends with the test.
func startCluster(t *testing.T, config devcluster.Config) *devcluster.Cluster {
	t.Helper()
	c, err := devcluster.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// serversOnly is a cluster without nodes, and the environment of its operator.
func serversOnly(t *testing.T, config devcluster.Config) (*devcluster.Cluster, []string) {
	t.Helper()
	config.ServersOnly = true
	c := startCluster(t, config)
	return c, pgEnv(t, c, c.Nodes[0])
}

// pgEnv leads libpq to a server, as the superuser.
func pgEnv(t *testing.T, c *devcluster.Cluster, n *devcluster.Node) []string {
	t.Helper()
	host, port, err := net.SplitHostPort(n.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"PGHOST=" + host, "PGPORT=" + port, "PGUSER=" + c.Superuser, "PGPASSWORD=" + c.SuperuserPassword, "PGDATABASE=" + c.Database}
}

// execute runs statements at the primary itself, as the superuser.
func execute(t *testing.T, c *devcluster.Cluster, sql string) {
	t.Helper()
	executeIn(t, c, c.Database, sql)
}

func executeIn(t *testing.T, c *devcluster.Cluster, database, sql string) {
	t.Helper()
	conn, err := connectTo(t.Context(), c.Nodes[0].Postgres, c.Superuser, c.SuperuserPassword, database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) // its results were read
	if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
