// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package pgx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func TestPutAndRead(t *testing.T) {
	eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
		name := dir + "a"
		for want := 1; want <= 3; want++ {
			if got := number(t, conn, "SELECT vault.put_secret($1, $2)", name, fmt.Sprintf("pgx canary %d ünï 'q' \\", want)); got != want {
				t.Errorf("version: got %d, want %d", got, want)
			}
		}
		const want = `pgx canary 3 ünï 'q' \`
		for _, format := range []int16{pgtype.TextFormatCode, pgtype.BinaryFormatCode} {
			if got := text(t, conn, "SELECT vault.read_secret($1) AS pw", pgx.QueryResultFormats{format}, name); got != want {
				t.Errorf("read in format %d: got %q, want %q", format, got, want)
			}
		}
		rows, err := conn.Query(t.Context(), "SELECT 1 AS n, vault.read_secret($1) AS pw", name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := pgx.CollectRows(rows, pgx.RowToMap)
		if err != nil || len(got) != 1 || got[0]["pw"] != want {
			t.Errorf("as a map: got %v, %v", got, err)
		}
		if oid := rows.FieldDescriptions()[1].DataTypeOID; oid != pgtype.TextOID {
			t.Errorf("type of the column: got %d, want text", oid)
		}
		if got := number(t, conn, "SELECT vault.verify_secret($1, $2)", name, want); got != 3 {
			t.Errorf("verify: got %d, want 3", got)
		}
		var none *int
		if err := conn.QueryRow(t.Context(), "SELECT vault.verify_secret($1, $2)", name, "pgx canary wrong").Scan(&none); err != nil || none != nil {
			t.Errorf("verify a wrong value: got %v, %v, want NULL", none, err)
		}
		if got := number(t, conn, "SELECT vault.create_secret($1, 'automatic')", dir+"generated"); got != 1 {
			t.Errorf("create: got version %d, want 1", got)
		}
		if got := len(text(t, conn, "SELECT vault.read_secret($1)", dir+"generated")); got != 43 {
			t.Errorf("generated value: got %d characters, want 43", got)
		}
		if got := number(t, conn, "SELECT vault.rotate_secret($1, $2)", dir+"generated", "pgx canary rotated"); got != 2 {
			t.Errorf("rotate: got version %d, want 2", got)
		}
	})
	neverSent(t, "pgx canary")
}

// TestLiteral runs one statement with a literal value three times: it is sealed
// anew each time.
func TestLiteral(t *testing.T) {
	eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
		sql := "SELECT vault.put_secret('" + dir + "literal', 'literal canary')"
		for want := 1; want <= 3; want++ {
			if got := number(t, conn, sql); got != want {
				t.Errorf("version: got %d, want %d", got, want)
			}
		}
		with := "SELECT vault.put_secret($1, 'literal canary') + $2::int"
		for want := 14; want <= 16; want++ {
			if got := number(t, conn, with, dir+"literal", 10); got != want {
				t.Errorf("version and 10: got %d, want %d", got, want)
			}
		}
		if got := text(t, conn, "SELECT vault.read_secret($1)", dir+"literal"); got != "literal canary" {
			t.Errorf("read: got %q", got)
		}
		if _, err := conn.Prepare(t.Context(), "named", sql); err != nil {
			t.Fatal(err)
		}
		for want := 7; want <= 9; want++ {
			if got := number(t, conn, "named"); got != want {
				t.Errorf("version of a prepared statement: got %d, want %d", got, want)
			}
		}
		if err := conn.Deallocate(t.Context(), "named"); err != nil {
			t.Fatal(err)
		}
	})
	neverSent(t, "literal canary")
}

func TestBatch(t *testing.T) {
	eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
		var b pgx.Batch
		want := []string{}
		for i := range 20 {
			b.Queue("SELECT vault.put_secret($1, $2)::text", dir+"a", fmt.Sprintf("batch canary %d", i))
			b.Queue("SELECT vault.read_secret($1)", dir+"a")
			b.Queue("SELECT $1::text", "plain")
			want = append(want, fmt.Sprint(i+1), fmt.Sprintf("batch canary %d", i), "plain")
		}
		results := conn.SendBatch(t.Context(), &b)
		got := []string{}
		for range want {
			var s string
			if err := results.QueryRow().Scan(&s); err != nil {
				t.Fatal(err)
			}
			got = append(got, s)
		}
		if err := results.Close(); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}

		// One bad query undoes the batch.
		b = pgx.Batch{}
		b.Queue("SELECT vault.put_secret($1, $2)", dir+"a", "batch canary undone")
		b.Queue("SELECT 1 / (length($1) - 1)", "x")
		b.Queue("SELECT vault.put_secret($1, $2)", dir+"a", "batch canary undone")
		if err := conn.SendBatch(t.Context(), &b).Close(); state(err) != "22012" {
			t.Errorf("a bad query in a batch: got %v, want 22012", err)
		}
		if got := text(t, conn, "SELECT vault.read_secret($1)", dir+"a"); got != "batch canary 19" {
			t.Errorf("after the bad batch: got %q", got)
		}
	})
	neverSent(t, "batch canary")
}

// TestPipeline uses pgconn's own pipeline, with a Sync after each pair.
func TestPipeline(t *testing.T) {
	conn := shared.Connect(t, shared.DSN(0, shared.User)).PgConn()
	p := conn.StartPipeline(t.Context())
	p.SendPrepare("put", "SELECT vault.put_secret($1, $2)", nil)
	p.SendPrepare("read", "SELECT vault.read_secret($1)", nil)
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	const n = 50
	for i := range n {
		p.SendQueryPrepared("put", [][]byte{[]byte("pipeline/a"), fmt.Appendf(nil, "pipeline canary %d", i)}, nil, nil)
		p.SendQueryPrepared("read", [][]byte{[]byte("pipeline/a")}, nil, []int16{int16(i % 2)})
		if err := p.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for syncs := 0; syncs <= n; {
		result, err := p.GetResults()
		if err != nil {
			t.Fatal(err)
		}
		switch r := result.(type) {
		case *pgconn.ResultReader:
			rows := r.Read()
			if rows.Err != nil || len(rows.Rows) != 1 {
				t.Fatalf("got %v, %d rows", rows.Err, len(rows.Rows))
			}
			got = append(got, string(rows.Rows[0][0]))
		case *pgconn.PipelineSync:
			syncs++
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if want := fmt.Sprintf("pipeline canary %d", i); got[2*i] != fmt.Sprint(i+1) || got[2*i+1] != want {
			t.Errorf("pair %d: got %q, want %d %q", i, got[2*i:2*i+2], i+1, want)
		}
	}
	neverSent(t, "pipeline canary")
}

func TestTransactions(t *testing.T) {
	eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
		const put, read = "SELECT vault.put_secret($1, $2)", "SELECT vault.read_secret($1)"
		name := dir + "a"
		number(t, conn, put, name, "tx canary kept")
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		number(t, tx, put, name, "tx canary undone")
		if got := text(t, tx, read, name); got != "tx canary undone" {
			t.Errorf("in the transaction: got %q", got)
		}
		// Savepoints: one undone, one whose opening fails, one with an error of the lock.
		sub, err := tx.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		number(t, sub, put, name, "tx canary sub")
		if err := sub.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		for sql, want := range map[string]string{
			"SELECT vault.read_secret('" + dir + "none')":         "P0002",
			"SELECT vault.put_secret('bad//name', 'tx canary')":   "22023",
			"SELECT vault.put_secret('x', 'tx canary' || 'more')": "0A000",
			"SELECT vault.rotate_secret('" + name + "')":          "22023",
			"SELECT vault.nothing()":                              "42883",
			"SELECT 1/0":                                          "22012",
		} {
			sub, err := tx.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := sub.Exec(t.Context(), sql); state(err) != want {
				t.Errorf("%s: got %v, want %s", sql, err, want)
			}
			if _, err := sub.Exec(t.Context(), "SELECT 1"); state(err) != "25P02" {
				t.Errorf("behind %s: got %v, want 25P02", sql, err)
			}
			if err := sub.Rollback(t.Context()); err != nil {
				t.Fatalf("roll back after %s: %v", sql, err)
			}
		}
		if got := text(t, tx, read, name); got != "tx canary undone" {
			t.Errorf("after the savepoints: got %q", got)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := text(t, conn, read, name); got != "tx canary kept" {
			t.Errorf("after the rollback: got %q", got)
		}
		for want, level := range []pgx.TxIsoLevel{pgx.Serializable, pgx.RepeatableRead, pgx.ReadCommitted} {
			err := pgx.BeginTxFunc(t.Context(), conn, pgx.TxOptions{IsoLevel: level}, func(tx pgx.Tx) error {
				if got := number(t, tx, put, name, "tx canary level"); got != want+2 {
					t.Errorf("%s: got version %d, want %d", level, got, want+2)
				}
				return nil
			})
			if err != nil {
				t.Errorf("%s: %v", level, err)
			}
		}
	})
	neverSent(t, "tx canary")
}

// TestSpoiltInSavepoint: an opening that fails lets the client roll back to its
// savepoint.
func TestSpoiltInSavepoint(t *testing.T) {
	eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
		number(t, conn, "SELECT vault.put_secret($1, 'v')", dir+"spoilt")
		cluster.Exec(t, shared.Connect(t, shared.SuperDSN(0)), `UPDATE vault.secret_versions v SET nonce = set_byte(nonce, 0, get_byte(nonce, 0) # 1)
			FROM vault.secrets s WHERE s.id = v.secret_id AND s.name = $1`, dir+"spoilt")
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			sub, err := tx.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var s string
			if err := sub.QueryRow(t.Context(), "SELECT vault.read_secret($1)", dir+"spoilt").Scan(&s); state(err) != "XX001" {
				t.Errorf("got %q, %v, want XX001", s, err)
			}
			if err := sub.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		number(t, tx, "SELECT vault.put_secret($1, 'w')", dir+"spoilt")
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := text(t, conn, "SELECT vault.read_secret($1)", dir+"spoilt"); got != "w" {
			t.Errorf("got %q, want w", got)
		}
	})
}

func TestCursors(t *testing.T) {
	eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
		for _, n := range []string{"1", "2", "3"} {
			number(t, conn, "SELECT vault.put_secret($1, $2)", dir+n, "value "+n)
		}
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(t.Context()) //nolint:errcheck // it only read
		cluster.Exec(t, conn, "DECLARE c CURSOR FOR SELECT vault.read_secret('"+dir+"' || n) FROM generate_series(1, 3) n ORDER BY n")
		for _, want := range []string{"value 1", "value 2", "value 3"} {
			if got := text(t, tx, "FETCH 1 FROM c"); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		cluster.Exec(t, conn, "CLOSE c")
		cluster.Exec(t, conn, "DECLARE c CURSOR FOR SELECT 'plain'::text")
		if got := text(t, tx, "FETCH 1 FROM c"); got != "plain" {
			t.Errorf("another cursor of that name: got %q", got)
		}
	})
}

func TestCopy(t *testing.T) {
	conn := shared.Connect(t, shared.DSN(0, shared.User))
	number(t, conn, "SELECT vault.put_secret('copy/a', 'copy canary')")
	cluster.Exec(t, conn, "CREATE TABLE copied (n int, t text)")
	const n = 20000
	rows := make([][]any, 0, n)
	for i := range n {
		rows = append(rows, []any{i, strings.Repeat("x", i%50)})
	}
	if got, err := conn.CopyFrom(t.Context(), pgx.Identifier{"copied"}, []string{"n", "t"}, pgx.CopyFromRows(rows)); err != nil || got != n {
		t.Fatalf("copy in: got %d, %v", got, err)
	}
	failed := errors.New("the source ended")
	_, err := conn.CopyFrom(t.Context(), pgx.Identifier{"copied"}, []string{"n", "t"}, pgx.CopyFromFunc(func() ([]any, error) { return nil, failed }))
	if state(err) != "57014" {
		t.Errorf("a copy that its client ends: got %v, want 57014", err)
	}
	if got := text(t, conn, "SELECT vault.read_secret('copy/a')"); got != "copy canary" {
		t.Errorf("after it: got %q", got)
	}
	var out bytes.Buffer
	tag, err := conn.PgConn().CopyTo(t.Context(), &out, "COPY copied TO STDOUT")
	if err != nil || tag.RowsAffected() != n || bytes.Count(out.Bytes(), []byte("\n")) != n {
		t.Errorf("copy out: got %s, %v", tag, err)
	}
	out.Reset()
	if _, err := conn.PgConn().CopyTo(t.Context(), &out, "COPY (SELECT vault.read_secret('copy/a')) TO STDOUT"); err != nil || !strings.HasPrefix(out.String(), "hv1.") {
		t.Errorf("copy a secret out: got %q, %v, want sealed text", out.String(), err)
	}
	neverSent(t, "copy canary")
}

func TestErrors(t *testing.T) {
	eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
		for _, tt := range []struct {
			sql, want string
			args      []any
		}{
			{"SELECT vault.read_secret($1)", "P0002", []any{dir + "none"}},
			{"SELECT vault.put_secret($1, $2)", "22023", []any{"bad name", "errors canary"}},
			{"SELECT vault.put_secret($1, $2)", "22023", []any{dir + "a", ""}},
			{"SELECT vault.put_secret($1, $2 || $2)", "0A000", []any{dir + "a", "errors canary"}},
			{"SELECT vault.put_secret($1, $2), $2", "0A000", []any{dir + "a", "errors canary"}},
			{"SELECT vault.putsecret($1, $2)", "42883", []any{dir + "a", "errors canary"}},
			{"SELECT vault.put_secret($1, $2), nowhere", "42703", []any{dir + "a", "errors canary"}},
			{"SELECT vault.put_secret($1, $2), 1/(length($1)*0)", "22012", []any{dir + "a", "errors canary"}},
			{"DO $$ BEGIN PERFORM vault.put_secret('a', 'errors canary'); END $$", "0A000", nil},
		} {
			if conn.Config().DefaultQueryExecMode == pgx.QueryExecModeSimpleProtocol && strings.Contains(tt.sql, "$2, $2") {
				continue // pgx writes the value twice: two constants
			}
			_, err := conn.Exec(t.Context(), tt.sql, tt.args...)
			if conn.Config().DefaultQueryExecMode == pgx.QueryExecModeSimpleProtocol && strings.HasSuffix(tt.sql, "$2), $2") {
				continue
			}
			if state(err) != tt.want {
				t.Errorf("%s: got %v, want %s", tt.sql, err, tt.want)
			}
			if got := number(t, conn, "SELECT 1"); got != 1 {
				t.Errorf("after %s: got %d", tt.sql, got)
			}
		}
	})
}

func TestNull(t *testing.T) {
	eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
		var none *string
		if _, err := conn.Exec(t.Context(), "SELECT vault.put_secret($1, $2)", dir+"a", none); state(err) != "22004" {
			t.Errorf("a value that is NULL: got %v, want 22004", err)
		}
		if got := number(t, conn, "SELECT vault.create_secret($1, 'automatic', $2)", dir+"a", none); got != 1 {
			t.Errorf("create without a value: got %d, want 1", got)
		}
		var pw *string
		if err := conn.QueryRow(t.Context(), "SELECT vault.read_secret($1, missing_ok => true)", dir+"none").Scan(&pw); err != nil || pw != nil {
			t.Errorf("missing: got %v, %v, want NULL", pw, err)
		}
	})
}

func TestCancel(t *testing.T) {
	eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
		watcher := shared.Connect(t, shared.SuperDSN(0))
		number(t, conn, "SELECT vault.put_secret($1, 'v')", dir+"a")
		// By a cancel request: the session goes on.
		cancelled := func(sql, event string, args ...any) {
			t.Helper()
			done := make(chan error, 1)
			go func() { _, err := conn.Exec(t.Context(), sql, args...); done <- err }()
			cluster.Eventually(t, "a backend that waits", func() bool {
				return number(t, watcher, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event_type || '/' || wait_event ~ $2", conn.PgConn().PID(), event) == 1
			})
			if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := <-done; state(err) != "57014" {
				t.Errorf("%s: got %v, want 57014", sql, err)
			}
		}
		cancelled("SELECT pg_sleep(600)", "PgSleep")
		holder, err := shared.Connect(t, shared.DSN(0, shared.User)).Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		number(t, holder, "SELECT vault.put_secret($1, 'w')", dir+"a")
		cancelled("SELECT vault.put_secret($1, $2)", "Lock/", dir+"a", "x")
		if err := holder.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := number(t, conn, "SELECT vault.put_secret($1, 'y')", dir+"a"); got != 2 {
			t.Errorf("after the cancel: got version %d, want 2", got)
		}
		// By a context: pgx closes the connection, the server's end follows.
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { _, err := conn.Exec(ctx, "SELECT pg_sleep(600)"); done <- err }()
		pid := conn.PgConn().PID()
		cluster.Eventually(t, "a backend that sleeps", func() bool {
			return number(t, watcher, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'", pid) == 1
		})
		cancel()
		if err := <-done; err == nil {
			t.Error("a cancelled context: got no error")
		}
		cluster.Eventually(t, "the backend's end", func() bool {
			return number(t, watcher, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid) == 0
		})
	})
}

func TestListenNotify(t *testing.T) {
	eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
		cluster.Exec(t, conn, "LISTEN pgx_channel")
		other := shared.Connect(t, shared.DSN(0, shared.User))
		cluster.Exec(t, other, "SELECT pg_notify('pgx_channel', $1)", dir)
		n, err := conn.WaitForNotification(t.Context())
		if err != nil || n.Payload != dir || n.PID != other.PgConn().PID() {
			t.Errorf("got %v, %v, want %s from %d", n, err, dir, other.PgConn().PID())
		}
		cluster.Exec(t, conn, "NOTIFY pgx_channel, 'mine'")
		if n, err := conn.WaitForNotification(t.Context()); err != nil || n.PID != conn.PgConn().PID() {
			t.Errorf("got %v, %v, want one of my own", n, err)
		}
	})
}

// TestLargeObjects use functions that libpq calls by the fast path; pgx calls
// them in SQL.
func TestLargeObjects(t *testing.T) {
	conn := shared.Connect(t, shared.DSN(0, shared.User))
	want := bytes.Repeat([]byte("large \x00\xff"), 100000)
	err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		los := tx.LargeObjects()
		oid, err := los.Create(t.Context(), 0)
		if err != nil {
			return err
		}
		lo, err := los.Open(t.Context(), oid, pgx.LargeObjectModeRead|pgx.LargeObjectModeWrite)
		if err != nil {
			return err
		}
		if _, err := lo.Write(want); err != nil {
			return err
		}
		if _, err := lo.Seek(0, io.SeekStart); err != nil {
			return err
		}
		got, err := io.ReadAll(lo)
		if !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, want the %d that were written", len(got), len(want))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
