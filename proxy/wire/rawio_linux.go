// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import (
	"io"
	"os"
	"syscall"
	"unsafe"
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

func (s *rawRead) run(raw syscall.RawConn) (int, error) {
	s.n, s.err = 0, 0
	err := raw.Read(s.fn)
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

func (s *rawRead) read(raw syscall.RawConn, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.p = p
	return s.run(raw)
}

func (s *rawRead) readInto(raw syscall.RawConn, r *Reader) error {
	s.r = r
	n, err := s.run(raw)
	s.r = nil
	if err != nil {
		r.release()
		return err
	}
	r.w = n
	return nil
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
