// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package pgx drives nodes with pgx, in all five of its ways to run a query.
package pgx

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

var shared *cluster.Cluster

func TestMain(m *testing.M) {
	cluster.Main(m, cluster.Spec{
		Standbys: 1,
		NodeEnv:  map[string]string{"VAULT_MOVE_BACK_AFTER": "1ms"}, // that sessions go back, again and again
		Settings: map[string]string{
			"log_statement": "all", "log_parameter_max_length": "-1", "log_parameter_max_length_on_error": "-1",
		},
	}, &shared)
}

// modes are pgx's ways to run a query.
var modes = map[string]pgx.QueryExecMode{
	"cache statement": pgx.QueryExecModeCacheStatement,
	"cache describe":  pgx.QueryExecModeCacheDescribe,
	"describe exec":   pgx.QueryExecModeDescribeExec,
	"exec":            pgx.QueryExecModeExec,
	"simple protocol": pgx.QueryExecModeSimpleProtocol,
}

// A node is the one that the clients connect to.
type node int

// connect opens a connection through the node.
func (at node) connect(t *testing.T, options ...func(*pgx.ConnConfig)) *pgx.Conn {
	t.Helper()
	return shared.Connect(t, shared.DSN(int(at), shared.User), options...)
}

// eachMode runs a test with a connection of each mode. dir is a prefix for names
// of secrets that is the mode's own.
func (at node) eachMode(t *testing.T, test func(t *testing.T, conn *pgx.Conn, dir string)) {
	t.Helper()
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			conn := at.connect(t, func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = mode })
			test(t, conn, strings.ReplaceAll(t.Name(), " ", "-")+"/")
		})
	}
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// number is the one integer that a query must give.
func number(t *testing.T, conn querier, sql string, args ...any) int {
	t.Helper()
	var n int
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// text is the one text that a query must give.
func text(t *testing.T, conn querier, sql string, args ...any) string {
	t.Helper()
	var s string
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&s); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return s
}

// state is an error's SQLSTATE.
func state(err error) string {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return ""
	}
	return e.Code
}
