// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tls

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// Verdicts of a log-in through a node, on its way to the server.
const (
	inTLS   = "in over TLS"
	inClear = "in in clear"
	refused = "57P03" // the node cannot reach its server
)

// TestServerModes has every VAULT_PG_SSLMODE against every kind of server: which
// of them are reached, and over what.
func TestServerModes(t *testing.T) {
	own, other := newAuthority(t, "own"), newAuthority(t, "other")
	good, expired := tomorrow(), time.Now().Add(-time.Hour)
	_, port, _ := strings.Cut(shared.Nodes[0].Postgres, ":")
	for _, server := range []struct {
		name, host, roots string
		until             time.Time // of its certificate; zero: no TLS
		rejects           string    // by its pg_hba.conf: hostssl, hostnossl
		want              [6]string // by the order of modes
	}{
		{"trusted", "localhost", own.File, good, "", [6]string{inClear, inClear, inTLS, inTLS, inTLS, inTLS}},
		{"not trusted", "localhost", other.File, good, "", [6]string{inClear, inClear, inTLS, refused, refused, refused}},
		{"nobody named to trust", "localhost", "", good, "", [6]string{inClear, inClear, inTLS, inTLS, refused, refused}},
		{"another host name", "127.0.0.1", own.File, good, "", [6]string{inClear, inClear, inTLS, inTLS, inTLS, refused}},
		{"expired", "localhost", own.File, expired, "", [6]string{inClear, inClear, inTLS, refused, refused, refused}},
		{"no TLS", "localhost", own.File, time.Time{}, "", [6]string{inClear, inClear, inClear, refused, refused, refused}},
		{"only TLS", "localhost", own.File, good, "hostnossl", [6]string{refused, inTLS, inTLS, inTLS, inTLS, inTLS}},
		{"never TLS", "localhost", own.File, good, "hostssl", [6]string{inClear, inClear, inClear, refused, refused, refused}},
	} {
		t.Run(server.name, func(t *testing.T) {
			serveTLS(t, 0, own, server.until, server.rejects)
			for i, mode := range []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"} {
				settings := map[string]string{"VAULT_LOCAL_PG": server.host + ":" + port, "VAULT_PG_SSLMODE": mode, "VAULT_PG_HOSTS": server.host + ":" + port}
				settings["VAULT_PROXY_HBA"] = "off" // its lines are about the node here, not about the client
				if server.roots != "" {
					settings["VAULT_PG_SSLROOTCERT"] = server.roots
				}
				node := shared.Nodes[0].StartUnready(t, settings)
				if got := verdict(t, node.Proxy); got != server.want[i] {
					t.Errorf("%s: got %q, want %q", mode, got, server.want[i])
				}
			}
		})
	}
}

func tomorrow() time.Time { return time.Now().Add(24 * time.Hour) }

// verdict logs in through a node and asks the server how it is spoken to.
func verdict(t *testing.T, address string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), shared.AddressDSN(address, shared.User))
	var pe *pgconn.PgError
	switch {
	case errors.As(err, &pe):
		return pe.Code
	case err != nil:
		return err.Error()
	}
	defer conn.Close(t.Context())
	return cluster.Text(t, conn, "SELECT CASE WHEN ssl THEN '"+inTLS+"' ELSE '"+inClear+"' END FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
}

// serveTLS gives the i-th server a certificate and, if it shall reject clients with
// or without TLS, a pg_hba.conf that says so; all ends with the test.
func serveTLS(t *testing.T, i int, a *authority, until time.Time, rejects string) {
	t.Helper()
	if !until.IsZero() {
		cert, key := a.issue(t, until, "localhost")
		configure(t, i, map[string]string{
			"ssl": "on", "ssl_cert_file": place(t, i, cert), "ssl_key_file": place(t, i, key), "ssl_ca_file": place(t, i, a.File),
		})
	}
	if rejects != "" {
		rules(t, rejects+" all "+shared.User+" 127.0.0.1/32 reject", rejects+" all vault_service 127.0.0.1/32 reject")
	}
}

// place copies a file to where the i-th server may read it.
func place(t *testing.T, i int, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := shared.Nodes[i].DataDir
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no owner")
	}
	copied := filepath.Join(dir, "tls-"+filepath.Base(filepath.Dir(path))+"-"+filepath.Base(path))
	if err := os.WriteFile(copied, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(copied, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(copied) }) // the cluster's directory goes anyway
	return copied
}

// configure changes settings of the i-th server until the test ends.
func configure(t *testing.T, i int, settings map[string]string) {
	t.Helper()
	admin := shared.Connect(t, shared.SuperDSN(i))
	for name, value := range settings {
		cluster.Exec(t, admin, "ALTER SYSTEM SET "+name+" = '"+value+"'")
		t.Cleanup(func() { restore(t, i, "ALTER SYSTEM RESET "+name, "SELECT pg_reload_conf()") })
	}
	reload(t, i, admin, func() bool { return cluster.Text(t, admin, "SHOW ssl") == settings["ssl"] })
}

// rules puts lines before those of the first server's pg_hba.conf until the test ends.
func rules(t *testing.T, lines ...string) {
	t.Helper()
	admin := shared.Connect(t, shared.SuperDSN(0))
	hba := filepath.Join(shared.Nodes[0].DataDir, "pg_hba.conf")
	before, err := os.ReadFile(hba)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text []byte) {
		if err := os.WriteFile(hba, text, 0o600); err != nil { // the owner stays
			t.Error(err)
		}
	}
	write(append([]byte(strings.Join(lines, "\n")+"\n"), before...))
	t.Cleanup(func() {
		write(before)
		restore(t, 0, "SELECT pg_reload_conf()")
	})
	reload(t, 0, admin, func() bool { return true })
}

// reload returns when new backends have the new configuration: the postmaster
// takes a moment.
func reload(t *testing.T, i int, admin *pgx.Conn, done func() bool) {
	t.Helper()
	before := cluster.Text(t, admin, "SELECT pg_conf_load_time()::text")
	cluster.Exec(t, admin, "SELECT pg_reload_conf()")
	cluster.Eventually(t, "the new configuration", func() bool {
		fresh, err := pgx.Connect(t.Context(), shared.SuperDSN(i))
		if err != nil {
			return false
		}
		defer fresh.Close(t.Context())
		return cluster.Text(t, fresh, "SELECT pg_conf_load_time()::text") != before && done()
	})
}

// restore runs statements when the test's own connections are gone.
func restore(t *testing.T, i int, statements ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute) // the test's own has ended
	defer cancel()
	conn, err := pgx.Connect(ctx, shared.SuperDSN(i))
	if err != nil {
		t.Error("no connection to restore the server's configuration")
		return
	}
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
}
