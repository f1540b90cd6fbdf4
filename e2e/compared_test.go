// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestCompared runs the corpus of secrets beside constants: what the node refuses the
// server must not have seen, and would refuse as well; what passes it must take.
func TestCompared(t *testing.T) {
	corpus, err := os.ReadFile("../rewrite/testdata/columns.txt")
	if err != nil {
		t.Fatal(err)
	}
	put(t, "a", "s3cr3t", "b", "s3cr3t", "pin", "s3cr3t")
	node, server := client(t), shared.Connect(t, shared.DirectDSN(0, shared.User))
	cluster.Exec(t, node, `CREATE SCHEMA compared; SET search_path = compared;
		CREATE TABLE apps (name text, app text); INSERT INTO apps VALUES ('a', 'x');
		CREATE TABLE users (login text, secret text, password text, v text); INSERT INTO users VALUES ('l', 'a', 'p', 'v');
		CREATE TABLE t (id int, n text, x text); INSERT INTO t VALUES (1, 'a', 'x');
		CREATE TABLE public.s (k text);
		CREATE FUNCTION my_read(text) RETURNS vault.sealed LANGUAGE sql AS 'SELECT vault.read_secret($1)'`)
	defer cluster.Exec(t, node, "DROP SCHEMA compared CASCADE; DROP TABLE public.s")
	cluster.Exec(t, server, "SET search_path = compared")
	for _, c := range strings.Split(string(corpus), "\n=== ")[1:] {
		title, c, _ := strings.Cut(c, "\n")
		if strings.HasPrefix(title, "not followed") {
			continue // it is sent
		}
		_, c, _ = strings.Cut(c, "--- sql\n")
		sql, answer, _ := strings.Cut(c, "\n---")
		t.Run(title, func(t *testing.T) {
			said := compare(t, node, strings.ReplaceAll(sql, "s3cret", "compared canary"))
			meant := compare(t, server, sql)
			switch {
			case strings.Contains(answer, "\nrefused 0A000"):
				if said == nil || said.Code != "0A000" || !strings.Contains(said.Message, "cannot be compared") {
					t.Errorf("the node said %v", said)
				}
				if meant == nil {
					t.Error("the server takes it")
				}
			case said != nil || meant != nil:
				t.Errorf("the node said %v, the server %v", said, meant)
			}
		})
	}
	shared.NeverSent(t, "compared canary")
}

// compare runs a statement, and undoes it.
func compare(t *testing.T, conn *pgx.Conn, sql string) (said *pgconn.PgError) {
	t.Helper()
	cluster.Exec(t, conn, "BEGIN")
	_, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	if err != nil && !errors.As(err, &said) {
		t.Fatal(err)
	}
	cluster.Exec(t, conn, "ROLLBACK")
	return said
}
