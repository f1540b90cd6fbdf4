// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tools

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/report"
)

// verifiers are all roles' SCRAM verifiers: with them a PgBouncer lets in whom
// the server lets in, and passes each on as itself.
func verifiers(t *testing.T) map[string]string {
	t.Helper()
	rows, err := shared.Connect(t, shared.SuperDSN(0)).Query(t.Context(), "SELECT rolname::text, rolpassword FROM pg_authid WHERE rolcanlogin AND rolpassword LIKE 'SCRAM%'")
	if err != nil {
		t.Fatal(err)
	}
	users := map[string]string{}
	var name, verifier string
	if _, err := pgx.ForEachRow(rows, []any{&name, &verifier}, func() error { users[name] = verifier; return nil }); err != nil {
		t.Fatal(err)
	}
	return users
}

// logIn tries to, and returns the refusal.
func logIn(t *testing.T, address string) *pgconn.PgError {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), shared.AddressDSN(address, shared.User))
	var pg *pgconn.PgError
	switch {
	case err == nil:
		_ = conn.Close(t.Context()) // it should not be
		return nil
	case !errors.As(err, &pg):
		t.Fatalf("log-in: %v", err)
	}
	return pg
}

const (
	pooled    = "between this node and its PostgreSQL server is a pooler"
	allParams = "ignore_startup_parameters = extra_float_digits,search_path,statement_timeout,idle_in_transaction_session_timeout"
)

// TestPoolerBehind puts PgBouncer between a node and its server: the node
// notices, whether the pooler refuses its startup parameters or not.
func TestPoolerBehind(t *testing.T) {
	row := report.Open(t, report.Tools, "PgBouncer between node and server", word(version(t, "/usr/sbin/pgbouncer", "--version"), 1))
	for _, mode := range []string{"session", "transaction"} {
		users := verifiers(t)
		settings := shared.Nodes[0].Settings(t)
		users[settings["VAULT_PG_USER"]] = settings["VAULT_PG_PASSWORD"]
		for _, lines := range []string{"", allParams + ",hyperion_vault.client_addr"} {
			params := "as it is"
			if lines != "" {
				params = "startup parameters ignored"
			}
			row.Run(t, "refused in "+mode+" mode, "+params, func(t *testing.T) {
				address := bouncer{target: shared.Nodes[0].Postgres, mode: mode, users: users, settings: lines}.start(t)
				loose := shared.Nodes[0].StartUnready(t, map[string]string{"VAULT_LOCAL_PG": address})
				if e := logIn(t, loose.Proxy); e == nil || e.Code != "58000" || e.Message != pooled {
					t.Errorf("log-in: got %v, want 58000 %s", e, pooled)
				}
				binary, err := cluster.Binary()
				if err != nil {
					t.Fatal(err)
				}
				out, err := cluster.Command(t, nil, binary, "serve", "--check", "--config", loose.Config).CombinedOutput()
				if err == nil || !strings.Contains(string(out), "FAULT server") || !strings.Contains(string(out), "is a pooler") || !strings.Contains(string(out), "→ Point VAULT_LOCAL_PG") {
					t.Errorf("--check: got %v:\n%s", err, out)
				}
			})
		}
	}
}

// TestPoolerBehindLater lets the node connect to its server, and then only its
// clients' connections go to a pooler: each session notices by itself.
func TestPoolerBehindLater(t *testing.T) {
	for name, c := range map[string]struct{ mode, settings string }{
		"session":             {"session", allParams + ",hyperion_vault.client_addr"},
		"transaction":         {"transaction", allParams + ",hyperion_vault.client_addr"},
		"refuses the address": {"session", allParams},
	} {
		t.Run(name, func(t *testing.T) {
			way := forward(t, shared.Nodes[0].Postgres)
			loose := shared.Nodes[0].StartLoose(t, map[string]string{"VAULT_LOCAL_PG": way.address, "VAULT_PG_POOL_MAX": "1"})
			if e := logIn(t, loose.Proxy); e != nil {
				t.Fatalf("log-in past the pooler: %v", e)
			}
			address := bouncer{target: shared.Nodes[0].Postgres, mode: c.mode, users: verifiers(t), settings: c.settings}.start(t)
			way.target.Store(&address)
			if e := logIn(t, loose.Proxy); e == nil || e.Code != "58000" || e.Message != pooled {
				t.Errorf("log-in: got %v, want 58000 %s", e, pooled)
			}
			if log := read(t, loose.Log); !strings.Contains(log, "VAULT_LOCAL_PG is a pooler") {
				t.Errorf("the node's log does not say it:\n%s", log)
			}
		})
	}
}

// A way is a TCP port whose connections go to target.
type way struct {
	address string
	target  atomic.Pointer[string]
}

func forward(t *testing.T, target string) *way {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() }) // ends the loop below
	w := &way{address: listener.Addr().String()}
	w.target.Store(&target)
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			var d net.Dialer
			far, err := d.DialContext(t.Context(), "tcp", *w.target.Load())
			if err != nil {
				_ = near.Close() // the node sees that there is nobody
				continue
			}
			for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
				go func() {
					_, _ = io.Copy(pair[0], pair[1]) // until either side ends
					_ = pair[0].Close()
				}()
			}
		}
	}()
	return w
}
