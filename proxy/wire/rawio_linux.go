// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawRead is the state of one reading goroutine. The callback is made once, so
// that a read allocates nothing.
type rawRead struct {
	fn  func(fd uintptr) bool
	p   []byte
	r   *Reader // takes its buffer inside the callback, when readable
	n   int
	err syscall.Errno
}

func (s *rawRead) init() { s.fn = s.step }

func (s *rawRead) step(fd uintptr) bool {
	p := s.p
	if s.r != nil {
		s.r.take()
		p = s.r.buf
	}
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		switch errno {
		case 0:
			s.n = int(n)
			return true
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			if s.r != nil {
				s.r.release()
			}
			return false
		}
		s.n, s.err = 0, errno
		return true
	}
}

func (s *rawRead) run(c *Conn) (int, error) {
	s.n, s.err = 0, 0
	err := c.rawRead(s.fn)
	s.p = nil
	switch {
	case err != nil:
		return 0, err
	case s.err != 0:
		return 0, os.NewSyscallError("read", s.err)
	case s.n == 0:
		return 0, io.EOF
	}
	return s.n, nil
}

func (s *rawRead) read(c *Conn, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.p = p
	return s.run(c)
}

func (s *rawRead) readInto(r *Reader) error {
	s.r = r
	n, err := s.run(r.conn)
	s.r = nil
	if err != nil {
		r.release()
		return err
	}
	r.w = n
	return nil
}

// pump is the state of a reading goroutine that stays inside one RawConn.Read
// call: see Reader.Pump.
type pump struct {
	fn   func(fd uintptr) bool
	r    *Reader
	step func() bool
	n    int
	err  syscall.Errno
	turn uint32
}

func (s *pump) init() { s.fn = s.read }

func (s *pump) read(fd uintptr) bool {
	r := s.r
	r.conn.waiting.Store(0)
	for {
		if r.buf == nil {
			r.take()
		}
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&r.buf[0])), uintptr(len(r.buf)))
		switch errno {
		case 0:
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			r.Release()
			return false
		default:
			s.err = errno
			return true
		}
		s.n, r.r, r.w = int(n), 0, int(n)
		if n == 0 || !s.step() || r.r != r.w {
			return true
		}
		if int(n) == len(r.buf) {
			continue
		}
		// All that was there has been read, so nothing is lost by waiting for the
		// next event without a read that fails, but for an end of the stream that
		// came together with the data: a Sweeper looks for that.
		r.Release()
		s.turn++
		if s.turn == 0 {
			s.turn = 1
		}
		r.conn.waiting.Store(s.turn)
		return false
	}
}

func (s *pump) run(r *Reader, step func() bool) error {
	s.r, s.step, s.n, s.err = r, step, 0, 0
	err := r.conn.rawRead(s.fn)
	s.step = nil
	r.conn.waiting.Store(0)
	switch {
	case err != nil:
	case s.err != 0:
		err = os.NewSyscallError("read", s.err)
	case s.n == 0:
		err = io.EOF
	default:
		return nil
	}
	r.Release()
	return err
}

// rawRead is the connection's RawConn.Read, begun again after a Sweeper's nudge.
func (c *Conn) rawRead(fn func(fd uintptr) bool) error {
	for {
		err := c.raw.Read(fn)
		if !errors.Is(err, os.ErrDeadlineExceeded) || !c.nudged.Swap(false) {
			return err
		}
		if err := c.nc.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
	}
}

// A Sweeper finds the connections whose end came together with their last data
// and was not seen: the runtime's poller reports that once, and a Pump does not
// read again to find out. It is used by one goroutine.
type Sweeper struct {
	fds   []unix.PollFd
	conns []*Conn
	turns []uint32
}

// Add puts c among those that Sweep looks at, if it has waited since the last
// time without being looked at.
func (s *Sweeper) Add(c *Conn) {
	turn := c.waiting.Load()
	switch turn {
	case 0, c.swept:
		return
	case c.met:
	default:
		c.met = turn
		return
	}
	s.fds = append(s.fds, unix.PollFd{Fd: c.fd, Events: unix.POLLRDHUP})
	s.conns, s.turns = append(s.conns, c), append(s.turns, turn)
}

// Sweep wakes those whose other end has gone. A descriptor that belongs to
// another connection by now wakes somebody in vain.
func (s *Sweeper) Sweep() {
	if len(s.fds) == 0 {
		return
	}
	for {
		if _, err := unix.Poll(s.fds, 0); err != unix.EINTR {
			break
		}
	}
	for i, c := range s.conns {
		c.swept = s.turns[i]
		if s.fds[i].Revents != 0 {
			c.nudged.Store(true)
			c.nc.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // closed by now
		}
	}
	clear(s.conns)
	s.fds, s.conns, s.turns = s.fds[:0], s.conns[:0], s.turns[:0]
}

// rawWrite is the state of one writing goroutine.
type rawWrite struct {
	fn  func(fd uintptr) bool
	p   []byte
	err syscall.Errno
}

func (s *rawWrite) init() { s.fn = s.step }

func (s *rawWrite) step(fd uintptr) bool {
	for len(s.p) > 0 {
		// A socket's write raises SIGPIPE only for descriptors 1 and 2, which
		// the runtime handles; elsewhere it ignores the signal.
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&s.p[0])), uintptr(len(s.p)))
		switch errno {
		case 0:
			s.p = s.p[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			s.err = errno
			return true
		}
	}
	return true
}

func (s *rawWrite) write(raw syscall.RawConn, p []byte) (int, error) {
	s.p, s.err = p, 0
	err := raw.Write(s.fn)
	n := len(p) - len(s.p)
	s.p = nil
	if err == nil && s.err != 0 {
		err = os.NewSyscallError("write", s.err)
	}
	return n, err
}
