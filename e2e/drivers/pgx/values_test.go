// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package pgx

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

func (at node) put(t *testing.T) {
	at.eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
		name := dir + "a"
		for want := 1; want <= 3; want++ {
			if got := number(t, conn, "SELECT vault.put_secret($1, $2)", name, fmt.Sprintf("pgx canary %d ünï 'q' \\", want)); got != want {
				t.Errorf("version: got %d, want %d", got, want)
			}
		}
		const want = `pgx canary 3 ünï 'q' \`
		if got := text(t, conn, "SELECT vault.read_secret($1)", name); got != want {
			t.Errorf("read: got %q, want %q", got, want)
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
	shared.NeverSent(t, "pgx canary")
}

func (at node) read(t *testing.T, format int16) {
	t.Helper()
	at.eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
		const want = `read canary ünï 'q' \`
		number(t, conn, "SELECT vault.put_secret($1, $2)", dir+"a", want)
		args := []any{pgx.QueryResultFormats{format}, dir + "a"}
		switch conn.Config().DefaultQueryExecMode {
		case pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol: // they ask for text only
			if format == pgtype.BinaryFormatCode {
				return
			}
		default:
		}
		rows, err := conn.Query(t.Context(), "SELECT n::text, vault.read_secret($1) AS pw FROM generate_series(1, 50) n", args...)
		if err != nil {
			t.Fatal(err)
		}
		got, err := pgx.CollectRows(rows, pgx.RowToMap)
		if err != nil || len(got) != 50 || got[49]["n"] != "50" || got[49]["pw"] != want {
			t.Errorf("as maps: got %v, %v", got, err)
		}
		field := rows.FieldDescriptions()[1]
		if field.DataTypeOID != pgtype.TextOID || field.Format != format {
			t.Errorf("the column: got type %d in format %d, want text in %d", field.DataTypeOID, field.Format, format)
		}
	})
	shared.NeverSent(t, "read canary")
}

func (at node) readText(t *testing.T) { at.read(t, pgtype.TextFormatCode) }

func (at node) readBinary(t *testing.T) { at.read(t, pgtype.BinaryFormatCode) }

// prepare runs one statement with a literal value three times: it is sealed
// anew each time.
func (at node) prepare(t *testing.T) {
	at.eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
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
	shared.NeverSent(t, "literal canary")
}

func (at node) null(t *testing.T) {
	at.eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
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
