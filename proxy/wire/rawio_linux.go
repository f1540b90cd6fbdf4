// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import (
	"errors"
	"io"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// maxIO bounds what one system call moves. Go's scheduler knows nothing of a raw
// one: while it copies megabytes, into memory that the kernel has yet to find, the
// sessions of a whole processor stand still.
const maxIO = 64 << 10

// receive is recv(2), which has less on its way to the socket than read(2). p is
// not empty.
func receive(fd uintptr, p []byte) (int, syscall.Errno) {
	p = p[:min(len(p), maxIO)]
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), 0, 0, 0)
	return int(n), errno
}

// send is send(2), without a signal for a connection that is closed.
func send(fd uintptr, p []byte) (int, syscall.Errno) {
	p = p[:min(len(p), maxIO)]
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), syscall.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}

// turns lets others run when a connection has moved so much: Go would let a
// goroutine that never has to wait go on for 10 ms, one flood after another.
type turns int

func (t *turns) moved(n int) {
	if *t += turns(n); *t >= maxTurn {
		*t = 0
		runtime.Gosched()
	}
}

const maxTurn = 16 << 10

// rawRead is the state of one reading goroutine. The callback is made once, so
// that a read allocates nothing.
type rawRead struct {
	fn  func(fd uintptr) bool
	p   []byte
	r   *Reader // takes its buffer inside the callback, when readable
	n   int
	err syscall.Errno

	turns turns
}

func (s *rawRead) init() { s.fn = s.step }

func (s *rawRead) step(fd uintptr) bool {
	p := s.p
	if s.r != nil {
		s.r.take()
		p = s.r.buf
	}
	for {
		n, errno := receive(fd, p)
		switch errno {
		case 0:
			s.n = n
			s.turns.moved(n)
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
	err := c.rawRead(s.fn, false)
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

	turns turns
}

func (s *pump) init() { s.fn = s.read }

func (s *pump) read(fd uintptr) bool {
	r := s.r
	r.conn.waiting.Store(0)
	for {
		if r.buf == nil {
			r.take()
		}
		n, errno := receive(fd, r.buf)
		switch errno {
		case 0:
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			s.rest(0)
			return false
		default:
			s.err = errno
			return true
		}
		s.n, r.r, r.w = n, 0, n
		if n == 0 || !s.step() || r.r != r.w {
			return true
		}
		s.turns.moved(n)
		if n == min(len(r.buf), maxIO) {
			continue
		}
		// All that was there has been read, so nothing is lost by waiting for the
		// next event without a read that fails, but for an end of the stream that
		// came together with the data: a Sweeper looks for that.
		s.rest(1)
		return false
	}
}

// rest begins a wait.
func (s *pump) rest(unseen uint32) {
	s.r.Release()
	if s.turn += 2; s.turn == 0 {
		s.turn = 2
	}
	s.r.conn.waiting.Store(s.turn | unseen)
}

func (s *pump) run(r *Reader, step func() bool) error {
	s.r, s.step, s.n, s.err = r, step, 0, 0
	err := r.conn.rawRead(s.fn, true)
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

// rawRead is the connection's RawConn.Read, begun again after a nudge, unless
// that was to park.
func (c *Conn) rawRead(fn func(fd uintptr) bool, parkable bool) error {
	for {
		if parkable && c.parks.Swap(false) {
			return ErrParked
		}
		err := c.raw.Read(fn)
		if !errors.Is(err, os.ErrDeadlineExceeded) || !c.free.Load() {
			return err
		}
		if err := c.unnudge(); err != nil {
			return err
		}
	}
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
		n, errno := send(fd, s.p)
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
