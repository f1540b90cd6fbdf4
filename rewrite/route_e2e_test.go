// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rewrite

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
)

// A standby is the judge of TestRoute's table: it refuses what is a write and
// nothing that is local.
func TestRouteByAStandby(t *testing.T) {
	c, err := devcluster.Start(t.Context(), devcluster.Config{Standbys: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Stop() }) //nolint:errcheck // scratch servers
	connect := func(n *devcluster.Node) *pgx.Conn {
		conn, err := n.ConnectServer(t.Context(), c.Superuser, c.SuperuserPassword, c.Database)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) }) // nothing is owed
		return conn
	}
	primary, standby := connect(c.Nodes[0]), connect(c.Nodes[1]).PgConn()
	if _, err := primary.Exec(t.Context(), `CREATE SCHEMA route; CREATE TABLE route.t (x int); CREATE SEQUENCE route.s;
		CREATE MATERIALIZED VIEW route.m AS SELECT 1; CREATE PROCEDURE route.p(int) LANGUAGE sql AS 'SELECT 1'`, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	seen := func() bool {
		r, err := standby.Exec(t.Context(), "SELECT to_regproc('route.p') IS NOT NULL").ReadAll()
		return err == nil && string(r[0].Rows[0][0]) == "t"
	}
	deadline, tick := time.After(20*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for !seen() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the standby does not follow within 20 s")
		}
	}
	for _, c := range routeCases(t) {
		_, err := standby.Exec(t.Context(), c.sql).ReadAll()
		var e *pgconn.PgError
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("%s: %v", c.sql, err)
		}
		refused := e != nil
		if want := (c.want == RouteWrite) != c.odd; refused != want {
			t.Errorf("%s: %v, but the standby says %v", c.sql, c.want, err)
		}
		// Otherwise the text's own fault.
		if refused && e.Code != "25006" && e.Code != "0A000" && e.Code != "XX000" && !strings.HasPrefix(e.Code, "55") {
			t.Errorf("%s: the standby says %v", c.sql, err)
		}
		if _, err := standby.Exec(t.Context(), "ROLLBACK").ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
}
