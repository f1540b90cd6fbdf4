// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import (
	"io"
	"net"
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
	wr  rawWrite
}

// NewConn wraps a connected socket or TLS connection. Nothing may have been
// read ahead from it.
func NewConn(nc net.Conn) *Conn {
	c := &Conn{nc: nc}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
			c.rd.init()
			c.wr.init()
		}
	}
	return c
}

// Net returns the connection below, for deadlines, addresses and TLS state.
func (c *Conn) Net() net.Conn { return c.nc }

// Close closes the connection; blocked calls return.
func (c *Conn) Close() error { return c.nc.Close() }

// SetDeadline bounds reads and writes; the zero time means no bound.
func (c *Conn) SetDeadline(t time.Time) error { return c.nc.SetDeadline(t) }

// Read reads at least one byte into p, or fails.
func (c *Conn) Read(p []byte) (int, error) {
	if c.raw == nil {
		return c.nc.Read(p)
	}
	return c.rd.read(c.raw, p)
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
func (c *Conn) readFirst(r *Reader) error {
	if c.raw != nil {
		return c.rd.readInto(c.raw, r)
	}
	r.take()
	n, err := c.nc.Read(r.buf)
	r.w = n
	if n > 0 {
		return nil
	}
	r.release()
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}
