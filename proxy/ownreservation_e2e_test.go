// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package proxy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A client may have the server show him what was sealed for his own statement, and
// store it by a reservation of his own: no node has recorded that before, so it is
// recorded when the server tells.
func TestRecordOfOwnReservation(t *testing.T) {
	n, sink := auditedNode(t)
	n.exec(t, "CREATE FUNCTION shows() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '%', current_query(); END $$")
	app := n.connect(t, n.User, n.Password)
	if _, err := app.Exec(t.Context(), "SELECT vault.put_secret('o/r', 'one')", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	_, err := app.Exec(t.Context(), "SELECT vault.put_secret('o/r', 'two'), shows()", pgx.QueryExecModeSimpleProtocol)
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(pg.Message, "hv1.")
	text, _, _ = strings.Cut(text, "'")
	if len(text) < 100 {
		t.Fatalf("the server shows no sealed text: %q", pg.Message)
	}
	last := slices.Max(n.changes(t, 0))
	sink.take()
	sql := fmt.Sprintf(`DO $d$ BEGIN EXECUTE 'SELECT * FROM vault.next' || '_version(''o/r'', 1, ''put'')'; EXECUTE 'SELECT vault.put' || '_secret(''o/r'', ''hv1.%s'')'; END $d$`, text)
	if _, err := app.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	got, ids := sink.takeChanges()
	if rows := n.changes(t, last); len(rows) != 1 || !slices.Equal(ids, rows) {
		t.Errorf("recorded %q: the records name changes %v, the server has %v", got, ids, rows)
	}
	if _, err := app.Exec(t.Context(), "DO $d$ BEGIN EXECUTE 'SELECT * FROM vault.verify' || '_begin(''o/r'')'; END $d$", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	if got, _ := sink.take(); !slices.Equal(got, []string{"verify ok o/r statement"}) {
		t.Errorf("verify_begin by himself: recorded %q", got)
	}
}
