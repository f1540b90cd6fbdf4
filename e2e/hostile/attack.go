// SPDX-License-Identifier: GPL-3.0-or-later

// Package hostile is clients that mean harm: each Attack goes on until it is
// stopped, with connections that say nothing, say it slowly, lie about lengths,
// or ask for more than they take. Its tests run them beside clients that behave,
// who must not notice; so does the soak, which also measures.
package hostile

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A Target is the node under attack.
type Target struct {
	Addr string
	TLS  *tls.Config // for the node's certificate
	DSN  string      // of a role that may log in, for attacks from within
}

// NewTarget is a node at addr; certificate is the path of the one that it has.
func NewTarget(addr, dsn, certificate string) (Target, error) {
	pem, err := os.ReadFile(certificate)
	if err != nil {
		return Target{}, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return Target{
		Addr: addr, DSN: dsn,
		TLS: &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12},
	}, nil
}

// MemoryBound is how many bytes a node may take: see docs/CONFIG.md, "Memory".
// held is VAULT_MAX_HELD_BYTES; of connections those before log-in count too.
func MemoryBound(held, connections int64) int64 {
	return 160<<20 + 2*held + connections*96<<10
}

// An Attack runs until ctx ends. Its error says that it could not be made at all, or
// that it came through; that the node throws it out is no error.
type Attack struct {
	Name string
	Run  func(ctx context.Context, t Target) error
}

// Strangers are the attacks that need no password, silent being how many
// connections say nothing.
func Strangers(silent int) []Attack {
	return []Attack{
		{"silent connections", func(ctx context.Context, t Target) error { return keep(ctx, t, silent, nil) }},
		{"half-written startup packets", func(ctx context.Context, t Target) error {
			return keep(ctx, t, 300, func(_ context.Context, nc net.Conn) error {
				_, err := nc.Write(startup("nobody")[:12])
				return err
			})
		}},
		{"startup packets byte by byte", func(ctx context.Context, t Target) error {
			return keep(ctx, t, 100, func(ctx context.Context, nc net.Conn) error { return trickle(ctx, nc, startup("nobody")) })
		}},
		{"log-ins left half-way", func(ctx context.Context, t Target) error { return keep(ctx, t, 200, halfLogin) }},
		{"TLS begun and left", func(ctx context.Context, t Target) error { return keep(ctx, t, 200, halfTLS) }},
		{"TLS byte by byte", func(ctx context.Context, t Target) error {
			return keep(ctx, t, 50, func(ctx context.Context, nc net.Conn) error {
				return tls.Client(slowConn{Conn: nc, ctx: ctx}, t.TLS).HandshakeContext(ctx)
			})
		}},
		{"old TLS", func(ctx context.Context, t Target) error { return storm(ctx, t, 2, oldTLS(t)) }},
		{"TLS renegotiated", renegotiate},
		{"wrong passwords", func(ctx context.Context, t Target) error { return storm(ctx, t, 8, wrongPassword) }},
		{"wrong cancel keys", func(ctx context.Context, t Target) error { return storm(ctx, t, 8, wrongCancel) }},
		{"bombs for proofs", func(ctx context.Context, t Target) error { return storm(ctx, t, 4, proofBombs) }},
		{"bombs before log-in", func(ctx context.Context, t Target) error { return storm(ctx, t, 4, bombs()) }},
	}
}

// from is where attacks come from: what strangers may do is counted by address.
var from = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 66)}

// dial connects, trying on while the node or this host is out of something.
func dial(ctx context.Context, t Target) (net.Conn, error) {
	d := net.Dialer{LocalAddr: from}
	for {
		nc, err := d.DialContext(ctx, "tcp", t.Addr)
		if err == nil || ctx.Err() != nil {
			return nc, err
		}
		if !rest(ctx, 20*time.Millisecond) {
			return nil, ctx.Err()
		}
	}
}

// rest waits; false: ctx has ended.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// keepers is how many connections keep opens at a time.
const keepers = 32

// keep holds n connections; on each begin is tried, and what the node does about
// it does not matter. Those that begin leaves at once and the node closes are
// opened anew, a few each second.
func keep(ctx context.Context, t Target, n int, begin func(context.Context, net.Conn) error) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, keepers) // connections being opened
	for range n {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		wg.Go(func() {
			release := sync.OnceFunc(func() { <-slots })
			defer release()
			for ctx.Err() == nil {
				nc, err := dial(ctx, t)
				release()
				if err != nil {
					return
				}
				hold(ctx, nc, begin)
				if !rest(ctx, 2*time.Second) {
					return
				}
			}
		})
	}
	<-ctx.Done()
	return nil
}

// hold begins on a connection and stays until either side has had enough.
func hold(ctx context.Context, nc net.Conn, begin func(context.Context, net.Conn) error) {
	stop := context.AfterFunc(ctx, func() { nc.Close() }) //nolint:errcheck // it ends in any case
	defer stop()
	defer nc.Close() //nolint:errcheck // as above
	if begin != nil && begin(ctx, nc) != nil {
		return
	}
	io.Copy(io.Discard, nc) //nolint:errcheck // until the node closes it
}

// storm repeats one short thing on connections of its own, n at a time, until the node
// takes what it must not.
func storm(ctx context.Context, t Target, n int, once func(ctx context.Context, nc net.Conn, i int) error) error {
	var wg sync.WaitGroup
	var taken atomic.Bool
	for w := range n {
		wg.Go(func() {
			for i := w; ctx.Err() == nil; i += n {
				nc, err := dial(ctx, t)
				if err != nil {
					return
				}
				stop := context.AfterFunc(ctx, func() { nc.Close() }) //nolint:errcheck // it ends in any case
				err = nc.SetDeadline(time.Now().Add(30 * time.Second))
				if err == nil {
					err = once(ctx, nc, i)
				}
				stop()
				nc.Close() //nolint:errcheck // as above
				// However fast the node is: an attacker on the same host must not
				// win by taking its processors.
				if errors.Is(err, errTaken) {
					taken.Store(true)
					return
				}
				if !rest(ctx, stormPause) {
					return
				}
			}
		})
	}
	wg.Wait()
	if taken.Load() {
		return errTaken
	}
	return nil
}

// stormPause keeps one attacker at some 200 attempts a second.
const stormPause = 5 * time.Millisecond

var errTaken = errors.New("the node took what it must not take")

// trickle writes a byte a second.
func trickle(ctx context.Context, nc net.Conn, b []byte) error {
	for i := range b {
		if _, err := nc.Write(b[i : i+1]); err != nil {
			return err
		}
		if !rest(ctx, time.Second) {
			return ctx.Err()
		}
	}
	return nil
}

// A slowConn writes a byte a second.
type slowConn struct {
	net.Conn
	ctx context.Context
}

func (c slowConn) Write(b []byte) (int, error) {
	if err := trickle(c.ctx, c.Conn, b); err != nil {
		return 0, err
	}
	return len(b), nil
}
