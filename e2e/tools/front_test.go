// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tools

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/pgbouncer"
	"github.com/hyperiondb/hyperion-vault/e2e/report"
)

// A front is what stands between clients and the node.
type front struct {
	name, version, address string
	// session: a client keeps its connection to the node.
	session bool
}

// modes are pgx's. The first two use what an earlier batch made, and so need a
// session.
var modes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeDescribeExec,
	pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
}

func TestPgBouncerInFront(t *testing.T) {
	users := map[string]string{shared.User: shared.Password, shared.Superuser: shared.SuperuserPassword}
	line := word(version(t, "/usr/sbin/pgbouncer", "--version"), 1)
	for mode, size := range map[string]string{"session": "default_pool_size = 20", "transaction": "default_pool_size = 4"} {
		t.Run(mode, func(t *testing.T) {
			address := bouncer{target: shared.Nodes[0].Proxy, mode: mode, users: users, settings: size}.start(t)
			front{name: "PgBouncer in front, " + mode + " mode", version: line, address: address, session: mode == "session"}.test(t)
		})
	}
}

func TestHAProxyInFront(t *testing.T) {
	address := cluster.FreeAddress(t)
	config := filepath.Join(ownDir(t), "haproxy.cfg")
	err := pgbouncer.WriteFile(config, fmt.Sprintf(`defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend clients
  bind %s
  default_backend nodes
backend nodes
  option tcp-check
  server node %s check inter 500ms
`, address, shared.Nodes[0].Proxy))
	if err != nil {
		t.Fatal(err)
	}
	startDaemon(t, address, "haproxy", "-db", "-f", config)
	line := word(version(t, "/usr/sbin/haproxy", "-v"), 2)
	front{name: "HAProxy in front, TCP", version: line, address: address, session: true}.test(t)
}

func (f front) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	return shared.Connect(t, shared.AddressDSN(f.address, shared.User))
}

// What a client asks for.
const (
	putSQL  = "SELECT vault.put_secret($1, $2)"
	readSQL = "SELECT vault.read_secret($1)"
)

func (f front) test(t *testing.T) {
	t.Helper()
	row := report.Open(t, report.Tools, f.name, f.version)
	env := shared.Libpq(t, f.address, shared.User)
	for i, mode := range modes {
		if i < 2 && !f.session {
			continue
		}
		row.Run(t, fmt.Sprintf("pgx `%s`", mode), func(t *testing.T) { f.pgx(t, mode) })
	}
	if !f.session {
		row.Add(report.Result{
			Feature: "statements that a client names", Outcome: report.Absent,
			Remark: "PgBouncer 1.18 follows none in this mode, with or without a node behind it (1.21 does)",
		})
	}
	row.Run(t, "8 clients at once, in transactions", f.crowd)
	row.Run(t, "cancel", f.cancel)
	if f.session {
		row.Run(t, "LISTEN", f.listen)
	}
	row.Run(t, "psql", func(t *testing.T) {
		script := "SELECT vault.put_secret('front/psql', 'front canary');\nBEGIN;\nSELECT vault.read_secret('front/psql');\nSELECT vault.put_secret('bad name', 'x');\nROLLBACK;\nSELECT vault.read_secret('front/psql');\n"
		if got := cluster.Output(t, env, cluster.Bin(t, "psql"), "-X", "-q", "-A", "-t", "-c", "SELECT 1"); got != "1\n" {
			t.Errorf("got %q", got)
		}
		got := psql(t, env, script)
		if want := "front canary\nERROR:  invalid name of a secret\n"; !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant in it\n%s", got, want)
		}
	})
	row.Run(t, "pgbench", func(t *testing.T) {
		cluster.Exec(t, f.connect(t), "SELECT vault.put_secret('front/bench', 'front canary')", pgx.QueryExecModeSimpleProtocol)
		script := write(t, "script", "BEGIN;\nSELECT vault.read_secret('front/bench') AS pw;\nSELECT vault.put_secret('front/bench', 'front canary');\nEND;\n")
		for _, mode := range []string{"simple", "extended", "prepared"} {
			if mode != "prepared" || f.session {
				pgbench(t, env, 20, "-M", mode, "-f", script, "-t", "10")
				pgbench(t, env, 10, "-M", mode, "-C", "-f", script, "-t", "5")
			}
		}
	})
	shared.NeverSent(t, "front canary")
}

// pgx puts, reads and fails in one of its modes.
func (f front) pgx(t *testing.T, mode pgx.QueryExecMode) {
	t.Helper()
	name := fmt.Sprintf("front/%s/%v", f.address, mode)
	name = strings.ReplaceAll(strings.ReplaceAll(name, ":", "-"), " ", "-")
	conn := f.connect(t)
	for n := range 5 {
		value := fmt.Sprintf("front canary %d", n)
		var version int
		var got string
		if err := conn.QueryRow(t.Context(), putSQL, mode, name, value).Scan(&version); err != nil || version != n+1 {
			t.Fatalf("put: got %d, %v, want %d", version, err, n+1)
		}
		if err := conn.QueryRow(t.Context(), readSQL, mode, name).Scan(&got); err != nil || got != value {
			t.Fatalf("read: got %q, %v, want %q", got, err, value)
		}
	}
	for state, args := range map[string][]any{"P0002": {readSQL, mode, "front/none"}, "22023": {putSQL, mode, "bad name", "front canary"}} {
		sql, _ := args[0].(string)
		_, err := conn.Exec(t.Context(), sql, args[1:]...)
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != state {
			t.Errorf("%s: got %v, want %s", sql, err, state)
		}
	}
}

// crowd lets more clients than there are server connections work, each in
// transactions of which every second is rolled back.
func (f front) crowd(t *testing.T) {
	t.Helper()
	var all sync.WaitGroup
	for client := range 8 {
		conn := f.connect(t)
		all.Go(func() {
			for n := range 10 {
				if err := f.work(t.Context(), conn, client, n); err != nil {
					t.Errorf("client %d, turn %d: %v", client, n, err)
					return
				}
			}
		})
	}
	all.Wait()
}

func (f front) work(ctx context.Context, conn *pgx.Conn, client, n int) error {
	mode := pgx.QueryExecModeExec
	if n%3 == 0 {
		mode = pgx.QueryExecModeSimpleProtocol
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }() // of one that committed: nothing
	name, value := fmt.Sprintf("front/crowd/%d", client), fmt.Sprintf("front canary of %d, %d", client, n)
	var got string
	if _, err := tx.Exec(ctx, putSQL, mode, name, value); err != nil {
		return err
	}
	if err := tx.QueryRow(ctx, readSQL, mode, name).Scan(&got); err != nil || got != value {
		return fmt.Errorf("read: got %q, want %q: %w", got, value, err)
	}
	if n%2 == 1 {
		return tx.Rollback(ctx)
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	if err := conn.QueryRow(ctx, readSQL, mode, name).Scan(&got); err != nil || got != value {
		return fmt.Errorf("read after the commit: got %q, want %q: %w", got, value, err)
	}
	return nil
}

// cancel asks by the key that the client got from what is in front.
func (f front) cancel(t *testing.T) {
	t.Helper()
	conn := f.connect(t)
	failed := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), "SELECT pg_sleep(600), 'front'", pgx.QueryExecModeSimpleProtocol)
		failed <- err
	}()
	super := shared.Connect(t, shared.SuperDSN(0))
	cluster.Eventually(t, "the sleep", func() bool {
		return cluster.Text(t, super, "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600), ''front''%' AND wait_event = 'PgSleep'") == "1"
	})
	if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
		t.Fatal(err)
	}
	var pg *pgconn.PgError
	if err := <-failed; !errors.As(err, &pg) || pg.Code != "57014" {
		t.Errorf("got %v, want 57014", err)
	}
	if got := cluster.Text(t, conn, "SELECT 'after'", pgx.QueryExecModeSimpleProtocol); got != "after" {
		t.Errorf("got %q", got)
	}
}

func (f front) listen(t *testing.T) {
	t.Helper()
	conn := f.connect(t)
	cluster.Exec(t, conn, "LISTEN front")
	cluster.Exec(t, f.connect(t), "NOTIFY front, 'heard'")
	n, err := conn.WaitForNotification(t.Context())
	if err != nil || n.Payload != "heard" {
		t.Errorf("got %v, %v", n, err)
	}
}
