// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package pgx

import (
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func (at node) batch(t *testing.T) {
	at.eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
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
	shared.NeverSent(t, "batch canary")
}

// pipeline uses pgconn's own pipeline, with a Sync after each pair.
func (at node) pipeline(t *testing.T) {
	conn, name := at.connect(t).PgConn(), []byte(t.Name()+"/a")
	p := conn.StartPipeline(t.Context())
	p.SendPrepare("put", "SELECT vault.put_secret($1, $2)", nil)
	p.SendPrepare("read", "SELECT vault.read_secret($1)", nil)
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	const n = 50
	for i := range n {
		p.SendQueryPrepared("put", [][]byte{name, fmt.Appendf(nil, "pipeline canary %d", i)}, nil, nil)
		p.SendQueryPrepared("read", [][]byte{name}, nil, []int16{int16(i % 2)})
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
	shared.NeverSent(t, "pipeline canary")
}
