// SPDX-License-Identifier: GPL-3.0-or-later

// Package pq is lib/pq's suite: a module of its own, so that the driver is no
// dependency of the product. Its tests print TAP for package drivers, which
// builds and runs it; see there for the environment.
package pq

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/lib/pq"
)

const (
	put  = "SELECT vault.put_secret($1, $2)"
	read = "SELECT vault.read_secret($1) AS pw"
)

var prefix, canary, broken = os.Getenv("PREFIX") + "/", os.Getenv("CANARY"), os.Getenv("BROKEN")

// modes are settings of the connection: statements that the driver prepares in
// a round trip before; parameters in binary format with no such trip; and the
// newest protocol, whose cancel keys are longer.
var modes = map[string]string{"prepared": "", "binary": "binary_parameters=yes", "newest": "max_protocol_version=latest"}

// A session is one connection, and a prefix for names of secrets.
type session struct {
	*testing.T
	conn *sql.Conn
	dir  string
	mode string
}

var features = []struct {
	name string
	run  func(s *session)
}{
	{"put", putValues},
	{"read text", readText},
	{"prepare", prepare},
	{"cursor", cursor},
	{"copy in", copyIn},
	{"transaction", transaction},
	{"savepoint", savepoint},
	{"error", refused},
	{"cancel", cancel},
	{"notify", notify},
	{"large object", largeObject},
}

func TestSuite(t *testing.T) {
	for _, feature := range features {
		verdict := "ok"
		if !t.Run(feature.name, func(t *testing.T) {
			for mode := range modes {
				t.Run(mode, func(t *testing.T) { feature.run(open(t, mode)) })
			}
		}) {
			verdict = "not ok"
		}
		fmt.Printf("%s - %s\n", verdict, feature.name)
	}
}

func open(t *testing.T, mode string) *session {
	t.Helper()
	db, err := sql.Open("postgres", modes[mode])
	if err != nil {
		t.Fatal(err)
	}
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); db.Close() })
	return &session{T: t, conn: conn, dir: prefix + mode + "/", mode: mode}
}

// A querier is a connection or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// want runs a query that must give one value.
func want[V comparable](s *session, q querier, want V, query string, args ...any) {
	s.Helper()
	var got V
	if err := q.QueryRowContext(s.Context(), query, args...).Scan(&got); err != nil {
		s.Fatalf("%s: %v", query, err)
	}
	if got != want {
		s.Fatalf("%s: got %v, want %v", query, got, want)
	}
}

// fails runs a query that must end in this SQLSTATE and not tell the value.
func fails(s *session, q querier, state, query string, args ...any) {
	s.Helper()
	var none any
	s.check(state, query, q.QueryRowContext(s.Context(), query, args...).Scan(&none))
}

func (s *session) check(state, what string, err error) {
	s.Helper()
	var e *pq.Error
	if !errors.As(err, &e) || string(e.Code) != state {
		s.Fatalf("%s: got %v, want %s", what, err, state)
	}
	if strings.Contains(err.Error(), canary) {
		s.Fatalf("%s: the error tells the value", what)
	}
}

func (s *session) exec(q querier, query string, args ...any) {
	s.Helper()
	if _, err := q.ExecContext(s.Context(), query, args...); err != nil {
		s.Fatalf("%s: %v", query, err)
	}
}

func (s *session) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}
