// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import "golang.org/x/sys/unix"

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
	switch {
	case turn%2 == 0, turn == c.swept:
		return
	case turn == c.met:
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
	var err error = unix.EINTR
	for err == unix.EINTR {
		_, err = unix.Poll(s.fds, 0)
	}
	for i, c := range s.conns {
		if err != nil { // they are looked at the next time
			break
		}
		c.swept = s.turns[i]
		if s.fds[i].Revents != 0 {
			c.nudge()
		}
	}
	clear(s.conns)
	s.fds, s.conns, s.turns = s.fds[:0], s.conns[:0], s.turns[:0]
}
