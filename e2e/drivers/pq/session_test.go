// SPDX-License-Identifier: GPL-3.0-or-later

package pq

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"time"

	"github.com/lib/pq"
)

func transaction(s *session) {
	name := s.dir + "transaction"
	tx, err := s.conn.BeginTx(s.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	s.must(err)
	want(s, tx, 1, put, name, canary)
	want(s, tx, canary, read, name)
	s.must(tx.Rollback())
	fails(s, s.conn, "P0002", read, name)
	tx, err = s.conn.BeginTx(s.Context(), nil)
	s.must(err)
	want(s, tx, 1, put, name, canary)
	s.must(tx.Commit())
	want(s, s.conn, canary, read, name)
	tx, err = s.conn.BeginTx(s.Context(), &sql.TxOptions{ReadOnly: true})
	s.must(err)
	want(s, tx, canary, read, name)
	fails(s, tx, "25006", put, name, canary)
	s.must(tx.Rollback())
}

// bad are statements that must fail.
func bad(s *session) []struct {
	query, state string
	args         []any
} {
	return []struct {
		query, state string
		args         []any
	}{
		{read, "P0002", []any{"none"}},
		{read, "XX001", []any{broken}},
		{put, "22023", []any{"bad name", canary}},
		{put, "22004", []any{s.dir + "bad", nil}},
		{"SELECT vault.put_secret($1, upper($2))", "0A000", []any{s.dir + "bad", canary}},
		{"SELECT vault.putsecret($1, $2)", "42883", []any{s.dir + "bad", canary}},
		{"SELECT vault.put_secret('bad', 'x' || " + pq.QuoteLiteral(canary) + ")", "0A000", nil},
		{"SELECT 1 +", "42601", nil},
		{"SELECT 1/0", "22012", nil},
	}
}

func savepoint(s *session) {
	tx, err := s.conn.BeginTx(s.Context(), nil)
	s.must(err)
	want(s, tx, 1, put, s.dir+"savepoint", canary)
	for _, b := range bad(s) {
		s.exec(tx, "SAVEPOINT s")
		fails(s, tx, b.state, b.query, b.args...)
		fails(s, tx, "25P02", "SELECT 1")
		s.exec(tx, "ROLLBACK TO s")
		want(s, tx, canary, read, s.dir+"savepoint")
	}
	s.must(tx.Commit())
	want(s, s.conn, canary, read, s.dir+"savepoint")
}

func refused(s *session) {
	for _, b := range bad(s) {
		fails(s, s.conn, b.state, b.query, b.args...)
		want(s, s.conn, 1, "SELECT 1")
	}
}

// cancel ends a context, at which the driver sends a cancel request.
func cancel(s *session) {
	want(s, s.conn, 1, put, s.dir+"cancel", canary)
	s.exec(s.conn, "SET application_name = '"+s.dir+"'")
	watcher, err := sql.Open("postgres", fmt.Sprintf("user=%s password=%s", os.Getenv("SUPERUSER"), os.Getenv("SUPERPASSWORD")))
	s.must(err)
	defer watcher.Close()
	ctx, stop := context.WithCancel(s.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := s.conn.ExecContext(ctx, "SELECT pg_sleep(600)")
		ended <- err
	}()
	for asleep := 0; asleep == 0; {
		s.must(watcher.QueryRow("SELECT count(*) FROM activity WHERE application_name = $1 AND wait_event = 'PgSleep'", s.dir).Scan(&asleep))
	}
	stop()
	s.check("57014", "a cancelled context", <-ended)
}

func notify(s *session) {
	heard := pq.NewListener(modes[s.mode], time.Second, time.Minute, nil)
	defer heard.Close()
	s.must(heard.Listen("pq_channel_" + s.mode))
	var pid int
	s.must(s.conn.QueryRowContext(s.Context(), "SELECT pg_backend_pid() FROM pg_notify($1, $2)", "pq_channel_"+s.mode, "theirs").Scan(&pid))
	n := <-heard.Notify
	if n.Extra != "theirs" || n.BePid != pid {
		s.Errorf("got %v, want theirs from %d", n, pid)
	}
	s.must(heard.Ping())
}
