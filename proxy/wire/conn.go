// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A Conn is one leg of a session. Over a plain socket it reads and writes by
// raw system calls inside the runtime's poller, which saves the scheduler's
// entry at each call; over TLS it is the TLS connection's own Read and Write.
// One goroutine may read while another writes.
type Conn struct {
	nc  net.Conn
	raw syscall.RawConn // nil over TLS
	rd  rawRead
	pm  pump
	wr  rawWrite
	// fd is the descriptor's number: for poll, which a stale one does no harm.
	fd int32
	// waiting is not 0 while a Pump waits; each wait has another number, which is
	// odd if it has not been seen that nothing is left to read.
	waiting atomic.Uint32
	free    atomic.Bool // no deadline is set but by nudge
	parks   atomic.Bool // the next Pump that waits is to return ErrParked
	// met and swept are the Sweeper's: the numbers last met and last looked at.
	met, swept uint32
	// head is what a reader over TLS waits with, so that an idle session holds
	// no buffer.
	head [HeaderSize]byte
}

// NewConn wraps a connected socket or TLS connection. Nothing may have been
// read ahead from it.
func NewConn(nc net.Conn) *Conn {
	c := &Conn{nc: nc}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
			c.rd.init()
			c.pm.init()
			c.wr.init()
			raw.Control(func(fd uintptr) { c.fd = int32(fd) }) //nolint:errcheck,gosec // closed: then every call says so; a descriptor is small
		}
	}
	return c
}

// A Socket is a connection whose Read and Write are a Conn's, for TLS, HTTP or a
// driver to stand on. As with any net.Conn, many goroutines may call it at once: pgx
// closes a connection that another of its goroutines still reads from.
type Socket struct {
	net.Conn
	c                *Conn
	reading, writing sync.Mutex // whoever waits for one waits as long as for the socket itself
}

// Sockets returns a listener that accepts Sockets.
func Sockets(l net.Listener) net.Listener { return sockets{l} }

type sockets struct{ net.Listener }

func (l sockets) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return NewSocket(nc), nil
}

// NewSocket wraps a connected socket.
func NewSocket(nc net.Conn) *Socket { return &Socket{Conn: nc, c: NewConn(nc)} }

// Read reads at least one byte into p, or fails.
func (s *Socket) Read(p []byte) (int, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	n, err := s.c.Read(p)
	return n, s.opError("read", err)
}

// Write writes all of p, or fails.
func (s *Socket) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	n, err := s.c.Write(p)
	return n, s.opError("write", err)
}

// opError makes of a system call's error what package net would return: the HTTP
// server asks for it.
func (s *Socket) opError(op string, err error) error {
	if call, ok := err.(*os.SyscallError); ok { //nolint:errorlint // as rawio made it
		return &net.OpError{Op: op, Net: s.LocalAddr().Network(), Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: call}
	}
	return err
}

// CloseWrite ends what is sent, and lets the other side send on.
func (s *Socket) CloseWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Net returns the connection below, for deadlines, addresses and TLS state.
func (c *Conn) Net() net.Conn { return c.nc }

// Close closes the connection; blocked calls return.
func (c *Conn) Close() error { return c.nc.Close() }

// SetDeadline bounds reads and writes; the zero time means no bound. Only a
// connection whose bound was taken away can be parked or swept.
func (c *Conn) SetDeadline(t time.Time) error {
	c.free.Store(t.IsZero())
	return c.nc.SetDeadline(t)
}

// nudge ends a wait for reading.
func (c *Conn) nudge() { c.nc.SetReadDeadline(longAgo) } //nolint:errcheck // closed by now

// unnudge lets reads wait again.
func (c *Conn) unnudge() error {
	if err := c.nc.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	if !c.free.Load() { // a bound was set meanwhile: it stands
		c.nudge()
	}
	return nil
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// Read reads at least one byte into p, or fails.
func (c *Conn) Read(p []byte) (int, error) {
	if c.raw == nil {
		return c.tlsRead(p, false)
	}
	return c.rd.read(c, p)
}

// tlsRead is the TLS connection's Read, begun again after a nudge, unless that
// was to park. A read that a deadline ends loses nothing: crypto/tls keeps what
// it has of a record.
func (c *Conn) tlsRead(p []byte, parkable bool) (int, error) {
	for {
		if parkable && c.parks.Swap(false) {
			return 0, ErrParked
		}
		n, err := c.nc.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !c.free.Load() {
			return n, err
		}
		if err := c.unnudge(); err != nil {
			return 0, err
		}
	}
}

// Write writes all of p, or fails.
func (c *Conn) Write(p []byte) (int, error) {
	if c.raw == nil {
		return c.nc.Write(p)
	}
	return c.wr.write(c.raw, p)
}

// readFirst reads into an empty Reader, which takes a buffer only once the
// socket is readable.
func (c *Conn) readFirst(r *Reader, parkable bool) error {
	if c.raw != nil {
		return c.rd.readInto(r)
	}
	n, err := c.tlsRead(c.head[:], parkable)
	if n == 0 {
		if err == nil {
			err = io.ErrNoProgress
		}
		return err
	}
	r.take()
	r.w = copy(r.buf, c.head[:n])
	if n == len(c.head) && string(c.head[1:]) != "\x00\x00\x00\x04" { // not a message without a body
		// The rest of the message is on its way, and of the record mostly here.
		// An error comes again at the next read.
		n, _ = c.nc.Read(r.buf[r.w:])
		r.w += n
	}
	return nil
}
