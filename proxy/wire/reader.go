// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// ErrTooLarge means that a message that must be held as a whole is larger than
// the caller allows.
var ErrTooLarge = errors.New("message too large to be looked into")

var buffers = sync.Pool{New: func() any { b := make([]byte, BufferSize); return &b }}

// A Reader walks the messages of one direction of one connection. It owns a
// pooled buffer only while bytes are in it, so an idle session holds none.
// It is used by one goroutine.
type Reader struct {
	conn  *Conn
	check func(typ byte, body int) error
	buf   []byte  // nil while empty
	pool  *[]byte // where buf came from; nil if it was grown
	r, w  int     // buf[r:w] is unread
	dirty bool    // buf held a secret: zero it before it goes back
	held  *Budget // pays for a grown buf; nil: unbounded
	left  int     // what a Stream that failed has left of its message
}

// NewClientReader reads what a client sends: unknown types and lengths beyond
// PostgreSQL's own limits are errors.
func NewClientReader(c *Conn) *Reader { return &Reader{conn: c, check: checkClient} }

// NewServerReader reads what a server sends.
func NewServerReader(c *Conn) *Reader { return &Reader{conn: c, check: checkServer} }

// Charge makes the Reader pay for what it holds beyond its pooled buffer. To be
// called before the first Fill.
func (r *Reader) Charge(b *Budget) { r.held = b }

// Buffered returns the bytes read but not yet discarded. Valid until the next
// call of a method other than Header and Discard.
func (r *Reader) Buffered() []byte { return r.buf[r.r:r.w] }

// Header returns type and whole size (header included) of the message that
// begins off bytes into the buffered ones; ok is false if its header is not
// complete.
func (r *Reader) Header(off int) (typ byte, size int, ok bool, err error) {
	b := r.buf[r.r:r.w]
	if len(b)-off < HeaderSize {
		return 0, 0, false, nil
	}
	typ = b[off]
	body := int(int32(binary.BigEndian.Uint32(b[off+1:]))) - 4 //nolint:gosec // the protocol's own type
	if err := r.check(typ, body); err != nil {
		return typ, 0, false, err
	}
	return typ, body + HeaderSize, true, nil
}

// Discard drops n buffered bytes; when none is left the buffer goes back to the
// pool at the next Fill.
func (r *Reader) Discard(n int) { r.r += n }

// MarkSecret makes the Reader zero its buffer before another may use it.
func (r *Reader) MarkSecret() { r.dirty = true }

// Fill blocks until at least one more byte is buffered. Unread bytes stay. The
// buffer grows only if it is full of one unfinished message.
func (r *Reader) Fill() error { return r.fill(false) }

func (r *Reader) fill(parkable bool) error {
	switch {
	case r.r == r.w:
		r.release()
		r.r, r.w = 0, 0
	case r.r > 0:
		n := copy(r.buf, r.buf[r.r:r.w])
		if r.dirty {
			clear(r.buf[n:r.w])
		}
		r.r, r.w = 0, n
	}
	if r.buf == nil {
		return r.conn.readFirst(r, parkable)
	}
	if r.w == len(r.buf) {
		if err := r.grow(); err != nil {
			return err
		}
	}
	n, err := r.conn.Read(r.buf[r.w:])
	r.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// Pump is Fill, but gives what comes to step first, and returns only when step
// says that something is left for the caller, or when an unfinished message is
// buffered. step must not read from the connection.
//
// While it waits it holds the connection's read lock: Close from elsewhere waits
// until step returns. So whoever closes must first make what step may block in
// fail, which is a write: by a write deadline on the connections concerned.
func (r *Reader) Pump(step func() bool) error {
	if r.conn.raw == nil || r.r != r.w {
		return r.fill(true)
	}
	r.Release()
	return r.conn.pm.run(r, step)
}

// Hold buffers the whole message of size bytes at the front. max bounds size.
// The memory grows with what has arrived, never with what was announced.
func (r *Reader) Hold(size, max int) error {
	if size > max {
		return ErrTooLarge
	}
	for r.w-r.r < size {
		if err := r.Fill(); err != nil {
			return unexpected(err)
		}
	}
	return nil
}

// Stream copies the next n bytes to dst in pieces of the buffer's size.
func (r *Reader) Stream(dst io.Writer, n int) error {
	for r.left = n; r.left > 0; {
		if r.r == r.w {
			if err := r.refill(); err != nil {
				return unexpected(err)
			}
		}
		m := min(r.left, r.w-r.r)
		if _, err := dst.Write(r.buf[r.r : r.r+m]); err != nil {
			return err
		}
		r.r += m
		r.left -= m
	}
	return nil
}

// Skip drops what a Stream that failed has left of its message.
func (r *Reader) Skip() error { return r.Stream(io.Discard, r.left) }

// refill is Fill in the middle of a message that has been read so far. It waits
// for any bytes, where Fill may count on those of a whole message.
func (r *Reader) refill() error {
	if r.buf == nil {
		r.take()
	}
	r.r, r.w = 0, 0
	n, err := r.conn.Read(r.buf)
	if r.w = n; n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// Release zeroes the buffer if it held a secret, or may: nobody has looked at
// what is unread. Then it gives it back. The Reader is empty afterwards.
func (r *Reader) Release() {
	r.dirty = r.dirty || r.r < r.w
	r.release()
	r.r, r.w = 0, 0
}

func (r *Reader) release() {
	if r.buf == nil {
		return
	}
	if r.dirty {
		for at := 0; at < len(r.buf); at += pieceSize {
			clear(r.buf[at:min(len(r.buf), at+pieceSize)])
		}
		r.dirty = false
	}
	if r.pool != nil {
		buffers.Put(r.pool)
	} else {
		r.held.Give(len(r.buf))
	}
	r.buf, r.pool = nil, nil
}

// pieceSize is how much of a large buffer is copied or zeroed in one go: Go
// cannot let others run in the middle of it.
const pieceSize = 1 << 20

func (r *Reader) grow() error {
	if !r.held.Take(2 * len(r.buf)) {
		return ErrNoRoom
	}
	next := make([]byte, 2*len(r.buf))
	for at := 0; at < r.w; {
		at += copy(next[at:], r.buf[at:min(r.w, at+pieceSize)])
	}
	n := r.w
	r.dirty = true // a message long enough to grow may hold a value
	r.release()
	r.buf, r.r, r.w, r.dirty = next, 0, n, true
	return nil
}

func (r *Reader) take() {
	p, _ := buffers.Get().(*[]byte)
	r.pool, r.buf = p, *p
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("connection closed in mid-message: %w", io.ErrUnexpectedEOF)
	}
	return err
}
