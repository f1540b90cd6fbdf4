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
	"syscall"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/pgbouncer"
)

// bouncer is a running PgBouncer.
type bouncer struct {
	cmd  *exec.Cmd
	addr string
	dir  string
}

// bouncerSettings make the honest peer: one server connection a client, as a
// node has; never a warm one (server_lifetime = 0 closes it when the client
// leaves); packets as large as ours. It has the server's own verifiers, so that
// it logs in with the client's key and computes no password hash.
const bouncerSettings = `default_pool_size = 6000
max_client_conn = 7000
server_lifetime = 0
pkt_buf = 65536
log_connections = 0
log_disconnections = 0
log_stats = 0
client_tls_sslmode = allow
client_tls_cert_file = %s
client_tls_key_file = %s`

// startBouncer runs PgBouncer in front of a server, with the node's certificate.
func startBouncer(ctx context.Context, database, server string, verifiers map[string]string, cert, key string) (_ *bouncer, err error) {
	account, err := pgbouncer.Account()
	if err != nil {
		return nil, err
	}
	b := &bouncer{}
	defer func() {
		if err != nil {
			b.stop()
		}
	}()
	if b.dir, err = pgbouncer.Dir(); err != nil {
		return nil, err
	}
	if b.addr, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	in := func(name string) string { return filepath.Join(b.dir, name) }
	for name, path := range map[string]string{"tls.crt": cert, "tls.key": key} {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if err := pgbouncer.WriteFile(in(name), string(text)); err != nil {
			return nil, err
		}
	}
	ini, err := pgbouncer.Config{
		Listen: b.addr, Target: server, Database: database, Mode: "session", Users: verifiers,
		Settings: fmt.Sprintf(bouncerSettings, in("tls.crt"), in("tls.key")),
	}.Write(b.dir)
	if err != nil {
		return nil, err
	}
	b.cmd = exec.Command("pgbouncer", ini) //nolint:noctx,gosec // stop ends it, after what it serves; a file of ours
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: account}
	log, err := os.Create(in("log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own copy
	b.cmd.Stderr = log
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	if err := listening(ctx, b.addr); err != nil {
		text, _ := os.ReadFile(in("log")) // or without it
		return nil, fmt.Errorf("PgBouncer: %w: %s", err, text)
	}
	return b, nil
}

func (b *bouncer) stop() {
	if b.cmd != nil && b.cmd.Process != nil {
		_ = b.cmd.Process.Kill() // it holds nothing
		_ = b.cmd.Wait()         // it was killed
	}
	_ = os.RemoveAll(b.dir) // a temporary directory
}

// freeAddress is an address of this host that nobody listens on.
func freeAddress(ctx context.Context) (string, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// listening waits until somebody accepts connections at addr.
func listening(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var d net.Dialer
		nc, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return nc.Close()
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}
