// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package proxy

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestGrown: what a client sends is below the limit, and with its value sealed at it,
// which passes, or above, which is refused before anything is sent; the session goes on.
func TestGrown(t *testing.T) {
	n, _ := auditedNode(t)
	const limit = 4096
	n.node.grown = limit // nobody is there yet
	conn := n.connect(t, n.User, n.Password).PgConn()
	const name, call = "grown/a", "SELECT vault.put_secret('grown/a', 'x') AS v, octet_length(current_query()) - position('SELECT' in current_query()) + 1"
	run := func(how, sql string, params ...string) string {
		t.Helper()
		var results []*pgconn.Result
		var err error
		if len(params) == 0 {
			results, err = conn.Exec(t.Context(), sql).ReadAll()
		} else {
			values := make([][]byte, len(params))
			for i, p := range params {
				values[i] = []byte(p)
			}
			r := conn.ExecParams(t.Context(), sql, values, nil, nil, nil).Read()
			results, err = []*pgconn.Result{r}, r.Err
		}
		var e *pgconn.PgError
		switch {
		case errors.As(err, &e):
			return e.Code
		case err != nil:
			t.Fatalf("%s: %v", how, err)
		}
		return string(results[0].Rows[0][1])
	}
	version := func() (v string) {
		t.Helper()
		if err := n.super.QueryRow(t.Context(), "SELECT max(v.version)::text FROM vault.secret_versions v").Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}

	size, err := strconv.Atoi(run("a first put", call))
	if err != nil {
		t.Fatal(err)
	}
	record := size - len(call) + len("x")
	prefix := 0 // of a put that joins the transaction of its lock
	if run("a second put", "SELECT vault.put_secret('grown/a', 'x') AS v, starts_with(current_query(), 'SET LOCAL')") == "t" {
		prefix = len(joinPrefix)
	}
	const word, end = 4, 1 // the length's, and the text's
	room := limit - word - end - size - prefix - len(" --")
	for _, tt := range []struct {
		how   string
		extra int
		want  string
	}{{"a Query at the limit", 0, strconv.Itoa(size + len(" --") + room)}, {"a Query above it", 1, stateLimit}} {
		before := version()
		if got := run(tt.how, call+" --"+strings.Repeat("-", room+tt.extra)); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.how, got, tt.want)
		}
		if changed := version() != before; changed != (tt.extra == 0) {
			t.Errorf("%s: stored: %v", tt.how, changed)
		}
	}

	const bind = "SELECT vault.put_secret($1, $2) AS v, length($3)"
	const counts = 2 + 2 + 2 // of formats, parameters and formats of results; no name is any
	room = limit - word - len("\x00\x00") - counts - 3*word - len(name) - record
	for _, tt := range []struct {
		how   string
		extra int
		want  string
	}{{"a Bind at the limit", 0, strconv.Itoa(room)}, {"a Bind above it", 1, stateLimit}} {
		before := version()
		if got := run(tt.how, bind, name, "x", strings.Repeat("-", room+tt.extra)); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.how, got, tt.want)
		}
		if changed := version() != before; changed != (tt.extra == 0) {
			t.Errorf("%s: stored: %v", tt.how, changed)
		}
	}
}
