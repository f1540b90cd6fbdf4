// SPDX-License-Identifier: GPL-3.0-or-later

package cluster

import (
	"fmt"
	"net"
	"testing"
)

// Activity makes a view `activity`: what pg_stat_activity of each server says, for
// the superuser, at whichever server it is read. A session that moves is found in
// it by the application_name that it has set.
func (c *Cluster) Activity(tb testing.TB) {
	tb.Helper()
	conn := c.Connect(tb, c.AddressDSN(c.Primary().Postgres, c.Superuser))
	Exec(tb, conn, "CREATE EXTENSION postgres_fdw")
	view := "CREATE VIEW activity AS"
	for i, n := range c.Nodes {
		host, port, err := net.SplitHostPort(n.Postgres)
		if err != nil {
			tb.Fatal(err)
		}
		at := fmt.Sprintf("activity_%d", i)
		Exec(tb, conn, fmt.Sprintf("CREATE SERVER %s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '%s', port '%s', dbname '%s')", at, host, port, c.Database))
		Exec(tb, conn, fmt.Sprintf("CREATE USER MAPPING FOR CURRENT_USER SERVER %s OPTIONS (user '%s', password '%s')", at, c.Superuser, c.SuperuserPassword))
		Exec(tb, conn, fmt.Sprintf("CREATE FOREIGN TABLE %[1]s (application_name text, wait_event_type text, wait_event text) SERVER %[1]s "+
			"OPTIONS (schema_name 'pg_catalog', table_name 'pg_stat_activity')", at))
		if i > 0 {
			view += " UNION ALL"
		}
		view += " TABLE " + at
	}
	Exec(tb, conn, view)
}
