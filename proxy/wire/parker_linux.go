// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrParked is what Pump returns after Park: nothing is buffered that it has not
// given to step, or to its caller.
var ErrParked = errors.New("wire: parked")

// Waits returns a number that stays the same as long as a Pump waits and nothing
// comes; 0: none waits, or the connection cannot be parked.
func (c *Conn) Waits() uint32 { return c.waiting.Load() }

// Park makes the Pump that waits, or else the next one, return ErrParked.
func (c *Conn) Park() {
	c.parks.Store(true)
	c.nudge()
}

// A Parker watches connections of which nobody waits: two goroutines with their
// stacks take twice as much memory as all else that a session has. It is epoll(7)
// of its own, inside the runtime's poller. Safe for concurrent use.
type Parker struct {
	epoll *os.File
	raw   syscall.RawConn
	fd    int

	mu     sync.Mutex
	last   uint64
	parked map[uint64]parked // nil: Run has ended
}

// parked is what is watched together.
type parked struct {
	conns [2]*Conn
	wake  func()
}

// NewParker makes a Parker, to be closed.
func NewParker() (*Parker, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(os.NewSyscallError("fcntl", err), unix.Close(fd))
	}
	p := &Parker{epoll: os.NewFile(uintptr(fd), "epoll"), fd: fd, parked: map[uint64]parked{}}
	// A file that the runtime's poller has refused says so only here.
	if err := p.epoll.SetReadDeadline(time.Time{}); err != nil {
		return nil, errors.Join(fmt.Errorf("epoll inside the runtime's poller: %w", err), p.epoll.Close())
	}
	if p.raw, err = p.epoll.SyscallConn(); err != nil {
		return nil, errors.Join(err, p.epoll.Close())
	}
	return p, nil
}

// Park calls wake, once and soon, when there is something to be read from a or
// b, or an end of them, or Wake is called with the id that it returns. Before
// either is closed, Wake must have returned. After an error nothing is watched.
func (p *Parker) Park(a, b *Conn, wake func()) (id uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.parked == nil {
		return 0, os.ErrClosed
	}
	p.last++
	id = p.last
	for i, c := range []*Conn{a, b} {
		event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))} //nolint:gosec // 64 bits of the kernel's that are ours
		if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, int(c.fd), &event); err != nil {
			if i > 0 {
				p.drop(a)
			}
			return 0, fmt.Errorf("park: %w", os.NewSyscallError("epoll_ctl", err))
		}
	}
	p.parked[id] = parked{conns: [2]*Conn{a, b}, wake: wake}
	return id, nil
}

func (p *Parker) drop(c *Conn) {
	unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, int(c.fd), nil) //nolint:errcheck // it is there
}

// Wake calls the wake of what was parked under id, unless that has been called.
func (p *Parker) Wake(id uint64) {
	p.mu.Lock()
	found, ok := p.parked[id]
	if ok {
		delete(p.parked, id)
		p.drop(found.conns[0])
		p.drop(found.conns[1])
	}
	p.mu.Unlock()
	if ok {
		found.wake()
	}
}

// Run wakes what has something to be read, until Close; then it wakes all, and
// nothing can be parked any more.
func (p *Parker) Run() {
	defer p.wakeAll()
	var events [128]unix.EpollEvent
	n := 0
	look := func(fd uintptr) bool {
		var err error
		for {
			if n, err = unix.EpollWait(int(fd), events[:], 0); err != unix.EINTR {
				return n != 0
			}
		}
	}
	for p.raw.Read(look) == nil && n >= 0 {
		for _, e := range events[:n] {
			p.Wake(uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32) //nolint:gosec // as in Park
		}
	}
}

func (p *Parker) wakeAll() {
	p.mu.Lock()
	all := p.parked
	p.parked = nil
	p.mu.Unlock()
	for _, one := range all {
		one.wake()
	}
}

// Close ends Run, once nothing that is parked can be closed any more.
func (p *Parker) Close() error { return p.epoll.Close() }
