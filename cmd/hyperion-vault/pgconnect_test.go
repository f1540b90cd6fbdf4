// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// closedPort is one where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return port
}

// TestUnreached: who cannot connect reads once where, as whom, and what says so.
func TestUnreached(t *testing.T) {
	port := closedPort(t)
	t.Setenv("PGHOST", "127.0.0.1")
	t.Setenv("PGPORT", port)
	t.Setenv("PGUSER", "boss")
	t.Setenv("PGDATABASE", "")
	t.Setenv("PGSSLMODE", "prefer")
	const names = "(PGHOST, PGPORT, PGUSER, PGDATABASE or PGSERVICE say where and as whom)"
	said := `no connection to 127.0.0.1:` + port + ` as "boss", database "boss": connection refused`
	for _, args := range [][]string{{"audit", "verify"}, {"audit", "tail"}, {"audit", "export"}} {
		if code, _, errs := command(t, "", args...); code != exitBlind || errs != "hyperion-vault: "+said+" "+names+"\n" {
			t.Errorf("%v: got %d, %q", args, code, errs)
		}
	}
	code, _, errs := command(t, "", "prove", "--server", "host=127.0.0.1 user=boss dbname=boss port="+port)
	if code != exitBlind || !strings.Contains(errs, said+" "+names) || strings.Contains(errs, "failed to connect") {
		t.Errorf("prove: got %d, %q", code, errs)
	}
	_, err := pgconn.Connect(t.Context(), "")
	what, _ := explain(&vault.Error{Msg: "no server", Err: fmt.Errorf("asked: %w", err)})
	if what != "no server: "+said {
		t.Errorf("--check and status: got %q", what)
	}
}
