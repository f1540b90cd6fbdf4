// SPDX-License-Identifier: GPL-3.0-or-later

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Link is a way to some address that a test can break: a relay on loopback. Not
// every kernel can delay packets, so the relay does; those that it drops, the
// kernel drops. It is safe for concurrent use.
type Link struct {
	// Address is where to connect instead of the target's.
	Address string

	target string
	wg     sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener // nil: refused
	conns    map[net.Conn]struct{}
	delay    time.Duration
	rate     int           // bytes a second each way of each connection; 0: any
	moving   chan struct{} // closed while bytes move
	dropped  bool
	closed   bool
}

// NewLink makes a link that is whole.
func NewLink(ctx context.Context, target string) (*Link, error) {
	l := &Link{target: target, conns: map[net.Conn]struct{}{}, moving: closedChan()}
	if err := l.listen(ctx, "127.0.0.1:0"); err != nil {
		return nil, err
	}
	l.Address = l.listener.Addr().String()
	return l, nil
}

func closedChan() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func (l *Link) listen(ctx context.Context, address string) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.listener = listener
	l.mu.Unlock()
	l.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // refused or closed
			}
			l.wg.Go(func() { l.relay(context.WithoutCancel(ctx), conn) })
		}
	})
	return nil
}

// Cut ends all connections and refuses new ones.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != nil {
		_ = l.listener.Close() // it only ends
		l.listener = nil
	}
	l.reset()
}

// reset ends connections by RST, as a machine does that knows nothing of them.
func (l *Link) reset() {
	for conn := range l.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a FIN would do
		}
		_ = conn.Close() // it only ends
	}
}

// Stall holds all bytes back: connections live, new ones are accepted, and nothing
// is ever answered.
func (l *Link) Stall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.moving:
		l.moving = make(chan struct{})
	default: // it is so
	}
}

// Slow delays each byte, and bounds the bytes a second of each connection; 0: as
// many as there are.
func (l *Link) Slow(delay time.Duration, rate int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay, l.rate = delay, rate
}

// Drop has the kernel drop all packets to and from the link's address, as a cable
// that was pulled: nothing is even acknowledged. It needs Alone.
func (l *Link) Drop(ctx context.Context) error {
	l.mu.Lock()
	l.dropped = true
	l.mu.Unlock()
	_, port, err := net.SplitHostPort(l.Address)
	if err != nil {
		return err
	}
	return nft(ctx, "add table inet faults\n"+
		"add set inet faults ports { type inet_service; }\n"+
		"add chain inet faults input { type filter hook input priority 0; }\n"+
		"flush chain inet faults input\n"+
		"add rule inet faults input tcp dport @ports drop\n"+
		"add rule inet faults input tcp sport @ports drop\n"+
		"add element inet faults ports { "+port+" }\n")
}

// Vanish has the kernel drop all further packets of a connection, either way, as if the
// client's machine were gone, until the test ends. It needs Alone.
func Vanish(tb testing.TB, client net.Conn) error {
	tb.Helper()
	ctx := tb.Context()
	_, near, err := net.SplitHostPort(client.LocalAddr().String())
	if err != nil {
		return err
	}
	_, far, err := net.SplitHostPort(client.RemoteAddr().String())
	if err != nil {
		return err
	}
	tb.Cleanup(func() {
		if err := nft(context.WithoutCancel(ctx), "add table inet vanished\ndelete table inet vanished\n"); err != nil {
			tb.Error(err)
		}
	})
	return nft(ctx, "add table inet vanished\n"+
		"add chain inet vanished input { type filter hook input priority 0; }\n"+
		"add rule inet vanished input tcp sport "+near+" tcp dport "+far+" drop\n"+
		"add rule inet vanished input tcp sport "+far+" tcp dport "+near+" drop\n")
}

func nft(ctx context.Context, script string) error {
	cmd := exec.CommandContext(ctx, "/usr/sbin/nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft (package nftables): %w: %s", err, out)
	}
	return nil
}

// Heal makes the link whole again. What was held back or dropped goes on where it
// was; what was cut stays so.
func (l *Link) Heal(ctx context.Context) error {
	l.mu.Lock()
	select {
	case <-l.moving:
	default:
		close(l.moving)
	}
	l.delay, l.rate = 0, 0
	dropped, refused := l.dropped, l.listener == nil && !l.closed
	l.dropped = false
	l.mu.Unlock()
	if refused {
		if err := l.listen(ctx, l.Address); err != nil {
			return err
		}
	}
	if !dropped {
		return nil
	}
	_, port, err := net.SplitHostPort(l.Address)
	if err != nil {
		return err
	}
	return nft(ctx, "delete element inet faults ports { "+port+" }\n")
}

// Close ends the link and all that goes through it.
func (l *Link) Close(ctx context.Context) error {
	err := l.Heal(ctx)
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.Cut()
	l.wg.Wait()
	return err
}

// relay carries one connection until either end closes it.
func (l *Link) relay(ctx context.Context, client net.Conn) {
	if !l.adopt(client) {
		return
	}
	defer l.forget(client)
	var d net.Dialer
	server, err := d.DialContext(ctx, "tcp", l.target)
	if err != nil {
		return // as the target would: closed at once
	}
	if !l.adopt(server) {
		return
	}
	defer l.forget(server)
	var ways sync.WaitGroup
	ways.Go(func() { l.copy(server, client) })
	ways.Go(func() { l.copy(client, server) })
	ways.Wait()
}

func (l *Link) adopt(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener == nil {
		_ = conn.Close() // it only ends
		return false
	}
	l.conns[conn] = struct{}{}
	return true
}

func (l *Link) forget(conn net.Conn) {
	l.mu.Lock()
	delete(l.conns, conn)
	l.mu.Unlock()
	_ = conn.Close() // it only ends
}

// A chunk is some bytes and when they came.
type chunk struct {
	bytes []byte
	at    time.Time
}

// copy carries bytes one way. A second goroutine reads, so that a delay is one of
// each byte and not one of each chunk after the other.
func (l *Link) copy(to, from net.Conn) {
	const queued, size = 64, 32 << 10
	chunks := make(chan chunk, queued)
	l.wg.Go(func() {
		defer close(chunks)
		for {
			buf := make([]byte, size)
			n, err := from.Read(buf)
			if n > 0 {
				chunks <- chunk{bytes: buf[:n], at: time.Now()}
			}
			if err != nil {
				return
			}
		}
	})
	var err error
	for c := range chunks {
		if err == nil { // else only drained, so that its reader ends
			err = l.pass(to, c)
		}
		if err != nil {
			_ = from.Close() // ends the reader
		}
	}
	l.end(to)
}

// end passes on that one side has ended.
func (l *Link) end(to net.Conn) {
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // it may be closed
	}
}

var errLinkClosed = errors.New("the link is closed")

// pass writes a chunk when its time has come and bytes move.
func (l *Link) pass(to io.Writer, c chunk) error {
	l.mu.Lock()
	moving, rate, closed := l.moving, l.rate, l.closed
	wait := l.delay - time.Since(c.at)
	l.mu.Unlock()
	if closed {
		return errLinkClosed
	}
	if rate > 0 {
		wait = max(wait, 0) + time.Duration(len(c.bytes))*time.Second/time.Duration(rate)
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		<-timer.C
	}
	<-moving
	_, err := to.Write(c.bytes)
	return err
}
