// SPDX-License-Identifier: GPL-3.0-or-later

package pq

import (
	"bytes"
	"database/sql"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/lib/pq"
)

func putValues(s *session) {
	name := s.dir + "put"
	for i, value := range []string{"0", canary + "\n\t", strings.Repeat("x", 400_000)} {
		want(s, s.conn, i+1, put, name, value)
		want(s, s.conn, value, read, name)
	}
	want(s, s.conn, 4, "SELECT vault.put_secret("+pq.QuoteLiteral(name)+", "+pq.QuoteLiteral(canary)+")") // a Query
	want(s, s.conn, canary, read, name)
	if s.mode == "prepared" {
		want(s, s.conn, 1, put, prefix+"canary", canary)
	}
}

func readText(s *session) {
	want(s, s.conn, 1, put, s.dir+"read", canary)
	// Columns in different formats, where the driver prepares.
	rows, err := s.conn.QueryContext(s.Context(), "SELECT n, vault.read_secret($1) AS pw, n::int8 FROM generate_series(1, 100) n", s.dir+"read")
	s.must(err)
	defer rows.Close()
	types, err := rows.ColumnTypes()
	s.must(err)
	if got := types[1].DatabaseTypeName(); got != "TEXT" || types[1].Name() != "pw" {
		s.Errorf("got a column %q of type %s", types[1].Name(), got)
	}
	n := 0
	for rows.Next() {
		var a, b int
		var pw string
		s.must(rows.Scan(&a, &pw, &b))
		n++
		if a != n || b != n || pw != canary {
			s.Fatalf("got %d %q %d", a, pw, b)
		}
	}
	s.must(rows.Err())
	if n != 100 {
		s.Errorf("got %d rows, want 100", n)
	}
	// Two results of one Query.
	name := pq.QuoteLiteral(s.dir + "read")
	both, err := s.conn.QueryContext(s.Context(), "SELECT vault.read_secret("+name+"); SELECT vault.read_secret("+name+")")
	s.must(err)
	defer both.Close()
	for range 2 {
		var pw string
		if !both.Next() {
			s.Fatal("no row")
		}
		s.must(both.Scan(&pw))
		if pw != canary {
			s.Errorf("got %q", pw)
		}
		if both.Next() {
			s.Error("a second row")
		}
		both.NextResultSet()
	}
}

func prepare(s *session) {
	writer, err := s.conn.PrepareContext(s.Context(), put)
	s.must(err)
	defer writer.Close()
	reader, err := s.conn.PrepareContext(s.Context(), read)
	s.must(err)
	defer reader.Close()
	literal, err := s.conn.PrepareContext(s.Context(), "SELECT vault.put_secret($1, "+pq.QuoteLiteral(canary+" literal")+") + $2")
	s.must(err)
	defer literal.Close()
	for i := range 8 {
		var version int
		var pw string
		s.must(writer.QueryRowContext(s.Context(), s.dir+"prepare", canary+fmt.Sprint(i)).Scan(&version))
		s.must(reader.QueryRowContext(s.Context(), s.dir+"prepare").Scan(&pw))
		if version != 2*i+1 || pw != canary+fmt.Sprint(i) {
			s.Fatalf("got %d, %q", version, pw)
		}
		s.must(literal.QueryRowContext(s.Context(), s.dir+"prepare", 100).Scan(&version))
		s.must(reader.QueryRowContext(s.Context(), s.dir+"prepare").Scan(&pw))
		if version != 102+2*i || pw != canary+" literal" {
			s.Fatalf("got %d, %q", version, pw)
		}
	}
}

func cursor(s *session) {
	tx, err := s.conn.BeginTx(s.Context(), nil)
	s.must(err)
	defer tx.Rollback() //nolint:errcheck // nothing is kept
	want(s, tx, 1, put, s.dir+"cursor", canary)
	s.exec(tx, "DECLARE c SCROLL CURSOR FOR SELECT vault.read_secret("+pq.QuoteLiteral(s.dir+"cursor")+") FROM generate_series(1, 5)")
	for range 5 {
		want(s, tx, canary, "FETCH 1 FROM c")
	}
	want(s, tx, canary, "FETCH ABSOLUTE 2 FROM c")
	s.exec(tx, "CLOSE c")
}

// copyIn is COPY as the driver has it: a prepared statement, and an empty
// execution at the end.
func copyIn(s *session) {
	s.exec(s.conn, "CREATE TEMP TABLE copied (n int, t text)")
	rows := func(yield func([]any) bool) {
		for i := range 20_000 {
			if !yield([]any{i, strings.Repeat("x", i%50)}) {
				return
			}
		}
	}
	result, err := s.copy("COPY copied (n, t) FROM STDIN", rows)
	s.must(err)
	if n, err := result.RowsAffected(); err != nil || n != 20_000 {
		s.Errorf("got %d rows, %v", n, err)
	}
	_, err = s.copy("COPY copied (n) FROM STDIN", slices.Values([][]any{{"bad"}}))
	s.check("22P02", "a bad line", err)
	want(s, s.conn, 20_000, "SELECT count(*) FROM copied")
}

func (s *session) copy(query string, rows iter.Seq[[]any]) (sql.Result, error) {
	tx, err := s.conn.BeginTx(s.Context(), nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() //nolint:errcheck // it may be committed
	copied, err := tx.PrepareContext(s.Context(), query)
	if err != nil {
		return nil, err
	}
	defer copied.Close()
	for row := range rows {
		if _, err := copied.ExecContext(s.Context(), row...); err != nil {
			return nil, err
		}
	}
	result, err := copied.ExecContext(s.Context())
	if err != nil {
		return nil, err
	}
	return result, tx.Commit()
}

// largeObject is by functions in SQL: the driver has none of its own.
func largeObject(s *session) {
	data := bytes.Repeat([]byte("large \x00\xff"), 50_000)
	tx, err := s.conn.BeginTx(s.Context(), nil)
	s.must(err)
	defer tx.Rollback() //nolint:errcheck // nothing is kept
	var oid, descriptor int
	s.must(tx.QueryRow("SELECT lo_from_bytea(0, $1)", data).Scan(&oid))
	s.must(tx.QueryRow("SELECT lo_open($1, 262144)", oid).Scan(&descriptor))
	var got []byte
	s.must(tx.QueryRow("SELECT loread($1, $2)", descriptor, len(data)).Scan(&got))
	if !bytes.Equal(got, data) {
		s.Errorf("got %d other bytes", len(got))
	}
	want(s, tx, 1, "SELECT lo_unlink($1)", oid)
}
