// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package proxy

import (
	"io"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// Who breaks off behind a change does not do it unseen, though it is still at work.
func TestRecordsOfWhoBreaksOff(t *testing.T) {
	n, sink := auditedNode(t)
	app := n.connect(t, n.User, n.Password)
	if _, err := app.Exec(t.Context(), "SELECT vault.put_secret('b/a', 'x'), vault.put_secret('b/b', 'x')"); err != nil {
		t.Fatal(err)
	}
	tooLarge := []byte{wire.Query, 0x20, 0, 0, 0}
	n.node.SetLimits(Limits{MaxQuery: 1 << 20})
	for _, sql := range []string{
		"SELECT vault.delete_secret('b/a')",
		"DO $$ BEGIN PERFORM pg_catalog.pg_sleep(60); EXCEPTION WHEN query_canceled THEN PERFORM vault.delete_secret('b/b'); END $$",
	} {
		last := slices.Max(n.changes(t, 0))
		for done := false; !done; { // it may be cancelled before it is done
			sink.take()
			conn, err := pgx.Connect(t.Context(), n.dsn(n.User, n.Password))
			if err != nil {
				t.Fatal(err)
			}
			nc := conn.PgConn().Conn()
			write(t, nc, wire.AppendQuery(nil, sql), tooLarge)
			io.Copy(io.Discard, nc) //nolint:errcheck // to its end
			for len(n.node.Sessions()) > 1 {
				time.Sleep(10 * time.Millisecond) //nolint:forbidigo // polls
			}
			words, ids := sink.takeChanges()
			for _, id := range n.changes(t, last) {
				if done = true; !slices.Contains(ids, id) {
					t.Errorf("%s: recorded %q, the server has change %d", sql, words, id)
				}
			}
		}
	}
}
