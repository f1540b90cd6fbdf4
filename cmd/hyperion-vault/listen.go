// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hyperiondb/hyperion-vault/proxy/lobby"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// listeners are all open before one is served: a port in use stops the start.
type listeners struct {
	proxy   []net.Listener
	api     net.Listener
	metrics net.Listener // nil: off
	control net.Listener // nil: not yet, see node.open
}

func (l *listeners) close() {
	for _, p := range append(l.proxy, l.api, l.metrics, l.control) {
		if p != nil {
			_ = p.Close() // nothing was accepted, or it is closed
		}
	}
}

// listen opens what clients connect to. They wait until it is served.
func (c *nodeConfig) listen(ctx context.Context) (_ *listeners, err error) {
	l := &listeners{}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	for _, e := range c.proxyListen {
		p, err := listenOn(ctx, "VAULT_PROXY_LISTEN", e)
		if err != nil {
			return nil, err
		}
		l.proxy = append(l.proxy, p)
	}
	if l.api, err = listenOn(ctx, "VAULT_API_LISTEN", c.apiListen); err != nil {
		return nil, err
	}
	l.api = wire.Sockets(l.api)
	if c.metricsListen != nil {
		if l.metrics, err = listenOn(ctx, "VAULT_METRICS_LISTEN", *c.metricsListen); err != nil {
			return nil, err
		}
		l.metrics = fewScrapers(l.metrics)
	}
	return l, nil
}

// open adds what is in the node's directory, and TLS.
func (n *node) open(ctx context.Context, l *listeners) (err error) {
	l.api = n.secure(l.api, n.config.apiListen)
	if l.metrics != nil {
		l.metrics = n.secure(l.metrics, *n.config.metricsListen)
	}
	l.control, err = listenSocket(ctx, "VAULT_AUDIT_DIR", controlPath(n.config.auditDir), 0o600)
	return err
}

// maxScrapers is more connections than whatever scrapes a node holds.
const maxScrapers = 64

// fewScrapers are wire.Sockets of which there are only so many: nobody has to show who
// he is there, and what he holds open the node's clients would lack.
func fewScrapers(l net.Listener) net.Listener { return lobby.Listen(wire.Sockets(l), maxScrapers) }

// secure speaks TLS where other hosts can listen in, if there is a certificate; on
// loopback HTTP stays plain, as its clients expect.
func (n *node) secure(l net.Listener, e endpoint) net.Listener {
	if n.certificate.Load() == nil || !e.beyondLoopback() {
		return l
	}
	config := n.tlsConfig()
	config.NextProtos = []string{"http/1.1"}
	return tls.NewListener(l, config)
}

func listenOn(ctx context.Context, variable string, e endpoint) (net.Listener, error) {
	if e.network == "unix" {
		return listenSocket(ctx, variable, e.address, 0o777) // the log-in decides, as at PostgreSQL's own
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, e.network, e.address)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot listen on %s: %w", variable, e.address, errnoOf(err))
	}
	return l, nil
}

// tryListen says whether an address is not free.
func (c *nodeConfig) tryListen(ctx context.Context) error {
	for _, e := range c.proxyListen {
		if err := tryListen(ctx, "VAULT_PROXY_LISTEN", e); err != nil {
			return err
		}
	}
	if err := tryListen(ctx, "VAULT_API_LISTEN", c.apiListen); err != nil {
		return err
	}
	if c.metricsListen != nil {
		if err := tryListen(ctx, "VAULT_METRICS_LISTEN", *c.metricsListen); err != nil {
			return err
		}
	}
	_, err := socketLeft(ctx, "VAULT_AUDIT_DIR", controlPath(c.auditDir)) // the spool looks at the directory
	return err
}

// tryListen opens a port and closes it. A socket is a file, and is only looked at.
func tryListen(ctx context.Context, variable string, e endpoint) error {
	if e.network != "unix" {
		l, err := listenOn(ctx, variable, e)
		if err == nil {
			_ = l.Close() // nothing was accepted
		}
		return err
	}
	if _, err := socketLeft(ctx, variable, e.address); err != nil {
		return err
	}
	if err := unix.Access(filepath.Dir(e.address), unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("%s: cannot listen on %s: %w", variable, e.address, err)
	}
	return nil
}

// socketLeft says whether the socket of a process that is gone is there.
func socketLeft(ctx context.Context, variable, path string) (bool, error) {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close() // only asked whether somebody is there
		return false, fmt.Errorf("%s: cannot listen on %s: another process does", variable, path)
	}
	info, statErr := os.Lstat(path)
	return statErr == nil && info.Mode().Type() == os.ModeSocket && errors.Is(err, syscall.ECONNREFUSED), nil
}

// listenSocket takes over the socket of a process that is gone.
func listenSocket(ctx context.Context, variable, path string, mode os.FileMode) (net.Listener, error) {
	left, err := socketLeft(ctx, variable, path)
	if left {
		err = os.Remove(path)
		if err != nil {
			err = fmt.Errorf("%s: %w", variable, err)
		}
	}
	if err != nil {
		return nil, err
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot listen on %s: %w", variable, path, errnoOf(err))
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", variable, err), l.Close())
	}
	return l, nil
}

// errnoOf drops what we say better.
func errnoOf(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
