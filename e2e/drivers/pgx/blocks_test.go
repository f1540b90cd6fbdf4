// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package pgx

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

func (at node) transactions(t *testing.T) {
	at.eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
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
	shared.NeverSent(t, "tx canary")
}

func (at node) savepoints(t *testing.T) {
	at.eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
		const put, read = "SELECT vault.put_secret($1, $2)", "SELECT vault.read_secret($1)"
		name := dir + "a"
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		number(t, tx, put, name, "tx canary kept")
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
		if got := text(t, tx, read, name); got != "tx canary kept" {
			t.Errorf("after the savepoints: got %q", got)
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := text(t, conn, read, name); got != "tx canary kept" {
			t.Errorf("after the transaction: got %q", got)
		}
	})
	t.Run("spoilt", at.spoiltInSavepoint)
	shared.NeverSent(t, "tx canary")
}

// spoiltInSavepoint: an opening that fails lets the client roll back to its
// savepoint.
func (at node) spoiltInSavepoint(t *testing.T) {
	at.eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
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

func (at node) refusals(t *testing.T) {
	at.eachMode(t, func(t *testing.T, conn *pgx.Conn, dir string) {
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
