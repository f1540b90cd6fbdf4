// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package pgx

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

func (at node) cursors(t *testing.T) {
	at.eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
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

func (at node) copyIn(t *testing.T) {
	conn := at.connect(t)
	number(t, conn, "SELECT vault.put_secret($1, 'copy canary')", t.Name()+"/a")
	cluster.Exec(t, conn, "CREATE TEMP TABLE copied (n int, t text)")
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
	if got := text(t, conn, "SELECT vault.read_secret($1)", t.Name()+"/a"); got != "copy canary" {
		t.Errorf("after it: got %q", got)
	}
	shared.NeverSent(t, "copy canary")
}

func (at node) copyOut(t *testing.T) {
	conn := at.connect(t)
	number(t, conn, "SELECT vault.put_secret($1, 'copy canary')", t.Name()+"/a")
	const n = 20000
	var out bytes.Buffer
	tag, err := conn.PgConn().CopyTo(t.Context(), &out, "COPY (SELECT n FROM generate_series(1, 20000) n) TO STDOUT")
	if err != nil || tag.RowsAffected() != n || bytes.Count(out.Bytes(), []byte("\n")) != n {
		t.Errorf("copy out: got %s, %v", tag, err)
	}
	out.Reset()
	if _, err := conn.PgConn().CopyTo(t.Context(), &out, "COPY (SELECT vault.read_secret('"+t.Name()+"/a')) TO STDOUT"); err != nil || !strings.HasPrefix(out.String(), "hv1.") {
		t.Errorf("copy a secret out: got %q, %v, want sealed text", out.String(), err)
	}
	shared.NeverSent(t, "copy canary")
}

// largeObjects uses functions that libpq calls by the fast path; pgx calls
// them in SQL.
func (at node) largeObjects(t *testing.T) {
	conn := at.connect(t)
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
