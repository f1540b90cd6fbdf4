// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// keepAliveProbes unanswered in a row, keepAliveEvery, end a connection.
const (
	keepAliveProbes = 6
	keepAliveEvery  = 10 * time.Second
)

// tune makes a leg notice that its peer is gone. What the system refuses is not
// worth the connection.
func (s *Server) tune(nc net.Conn) {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	l := s.limits()
	tc.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: l.KeepAlive, Interval: keepAliveEvery, Count: keepAliveProbes}) //nolint:errcheck // see above
	if l.UserTimeout == 0 {
		return
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) { //nolint:errcheck // see above
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(l.UserTimeout.Milliseconds())) //nolint:errcheck // see above
	})
}
