// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// A target is one way to the server.
type target struct {
	name string
	host string // an address, or a socket's directory
	port string
	pid  int // of the proxy; 0: there is none
}

// world is the server, a node and a PgBouncer in front of it.
type world struct {
	cluster *cluster.Cluster
	bouncer *bouncer
	sockets string // a directory

	node, pgbouncer, tcp, socket target
}

// newWorld starts everything on a fresh server that knows the vault, and has memory and
// WAL files as one that has been in service for a while.
func newWorld(ctx context.Context) (*world, error) {
	w, err := startWorld(ctx, map[string]string{
		"max_connections": "300", "shared_buffers": "256MB", "min_wal_size": "1GB", "max_wal_size": "4GB",
	})
	if err != nil {
		return nil, err
	}
	if err := w.warm(ctx); err != nil {
		w.stop()
		return nil, fmt.Errorf("warm the server up: %w", err)
	}
	return w, nil
}

// warm has each of the server's buffers used once, and its WAL files there to be used
// again: else the first rows would pay for pages that the system has yet to give, and for
// files that are filled with zeros, which is much of what storing audit records costs.
func (w *world) warm(ctx context.Context) error {
	return w.exec(ctx, "CREATE EXTENSION pg_prewarm",
		"CREATE TABLE warm AS SELECT repeat('x', 900) FROM generate_series(1, 600000)", // 600 MB
		"CHECKPOINT", "SELECT pg_prewarm('warm')", "DROP TABLE warm", "DROP EXTENSION pg_prewarm", "CHECKPOINT")
}

func startWorld(ctx context.Context, settings map[string]string) (_ *world, err error) {
	w := &world{}
	defer func() {
		if err != nil {
			w.stop()
		}
	}()
	if w.sockets, err = os.MkdirTemp("", "hvb"); err != nil { // short: a socket's path may have 107 bytes
		return nil, err
	}
	if err := os.Chmod(w.sockets, 0o777); err != nil { //nolint:gosec // the server runs as another user
		return nil, err
	}
	settings["unix_socket_directories"] = w.sockets
	settings["fsync"] = "off" // the disk is not what is measured
	// Beyond loopback the node has a certificate, as in production.
	w.cluster, err = cluster.New(ctx, cluster.Spec{Settings: settings, Listen: "0.0.0.0"})
	if err != nil {
		return nil, err
	}
	n := w.cluster.Nodes[0]
	verifiers, err := w.verifiers(ctx)
	if err != nil {
		return nil, err
	}
	w.bouncer, err = startBouncer(ctx, w.cluster.Database, n.Postgres, verifiers, w.cluster.Certificate(), filepath.Join(w.cluster.Dir(), "tls.key"))
	if err != nil {
		return nil, err
	}
	for t, at := range map[*target]target{
		&w.node:      {name: "hyperion-vault", host: n.Proxy, pid: n.PID},
		&w.pgbouncer: {name: "PgBouncer", host: w.bouncer.addr, pid: w.bouncer.cmd.Process.Pid},
		&w.tcp:       {name: "direct TCP", host: n.Postgres},
	} {
		*t = at
		if t.host, t.port, err = net.SplitHostPort(at.host); err != nil {
			return nil, err
		}
	}
	w.socket = target{name: "direct socket", host: w.sockets, port: w.tcp.port}
	return w, nil
}

func (w *world) stop() {
	if w.bouncer != nil {
		w.bouncer.stop()
	}
	if w.cluster != nil {
		if err := w.cluster.Stop(); err != nil {
			say("stopping: %v", err)
		}
	}
	_ = os.RemoveAll(w.sockets) // a temporary directory
}

// super is a superuser's connection to the server itself.
func (w *world) super(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, w.cluster.SuperDSN(0))
}

// verifiers are the server's own, of the roles that log in through PgBouncer.
func (w *world) verifiers(ctx context.Context) (map[string]string, error) {
	conn, err := w.super(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }() // what it did was looked at
	var verifier string
	err = conn.QueryRow(ctx, "SELECT rolpassword FROM pg_authid WHERE rolname = $1", w.cluster.User).Scan(&verifier)
	return map[string]string{w.cluster.User: verifier}, err
}

// exec runs statements as the superuser.
func (w *world) exec(ctx context.Context, statements ...string) error {
	conn, err := w.super(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // what it did was looked at
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.80s: %w", sql, err)
		}
	}
	return nil
}

// pgbenchTables makes pgbench's tables, once.
func (w *world) pgbenchTables(ctx context.Context) error {
	conn, err := w.super(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // what it did was looked at
	var there bool
	if err := conn.QueryRow(ctx, "SELECT to_regclass('pgbench_accounts') IS NOT NULL").Scan(&there); err != nil || there {
		return err
	}
	// Scale 1: larger tables would let fresh backends pay for page faults.
	if out, err := w.command(ctx, w.tcp, "pgbench", "-i", "-q", "-s", "1").CombinedOutput(); err != nil {
		return fmt.Errorf("pgbench -i: %w: %s", err, out)
	}
	return nil
}

// command is a client program of PostgreSQL's, pointed at a target.
func (w *world) command(ctx context.Context, t target, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // pgbench, with arguments of ours
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = []string{
		"PATH=" + bindir() + ":/usr/bin:/bin", "HOME=/nonexistent", "PGHOST=" + t.host, "PGPORT=" + t.port,
		"PGUSER=" + w.cluster.User, "PGPASSWORD=" + w.cluster.Password, "PGDATABASE=" + w.cluster.Database, "PGSSLMODE=disable",
	}
	if path, err := exec.LookPath(program); err == nil {
		cmd.Path, cmd.Err = path, nil
	} else {
		cmd.Path, cmd.Err = filepath.Join(bindir(), program), nil
	}
	return cmd
}

// bindir is where Debian keeps the newest server's programs.
func bindir() string {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(found) == 0 {
		return "/usr/bin"
	}
	return found[len(found)-1]
}

// dsn is for a driver.
func (w *world) dsn(t target) string {
	return fmt.Sprintf("host=%s port=%s user=%s password=%s dbname=%s sslmode=disable connect_timeout=60",
		t.host, t.port, w.cluster.User, w.cluster.Password, w.cluster.Database)
}

// version is what a program says of itself.
func version(ctx context.Context, program string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, program, args...).Output() //nolint:gosec // a program that is measured
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(first), nil
}

// secrets puts n secrets named 1 to n, once, through the node.
func (w *world) secrets(ctx context.Context, n int) error {
	conn, err := pgx.Connect(ctx, w.dsn(w.node))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // what it did was looked at
	var have int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM vault.list_secrets('')").Scan(&have); err != nil {
		return err
	}
	const chunk = 250 // names locked by one transaction
	for ; have < n; have += chunk {
		batch := &pgx.Batch{}
		for i := have + 1; i <= min(have+chunk, n); i++ {
			batch.Queue("SELECT vault.put_secret($1, $2)", strconv.Itoa(i), secretValue(i))
		}
		if err := conn.SendBatch(ctx, batch).Close(); err != nil {
			return fmt.Errorf("put secrets: %w", err)
		}
	}
	return nil
}

// secretValue is 32 bytes, as a password or a token would be.
func secretValue(i int) string { return fmt.Sprintf("the-value-of-secret-number-%05d", i)[:32] }

var errRows = errors.New("not the rows that were expected")
