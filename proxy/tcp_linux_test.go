// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTune asks the kernel what a socket that was accepted has from the limits.
func TestTune(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, c := range []struct {
		name    string
		limits  Limits
		idle    int // seconds
		unacked int // milliseconds
	}{
		{"defaults", Limits{}, 60, 0},
		{"both", Limits{KeepAlive: 17 * time.Second, UserTimeout: 23 * time.Second}, 17, 23000},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			accepted, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer accepted.Close()
			s := &Server{}
			s.SetLimits(c.limits)
			s.tune(accepted)
			raw, err := accepted.(*net.TCPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			err = raw.Control(func(fd uintptr) {
				for _, o := range []struct{ level, option, want int }{
					{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
					{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, c.idle},
					{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAliveEvery.Seconds())},
					{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveProbes},
					{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, c.unacked},
				} {
					if got, err := unix.GetsockoptInt(int(fd), o.level, o.option); err != nil || got != o.want {
						t.Errorf("option %d of level %d: got %d (%v), want %d", o.option, o.level, got, err, o.want)
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}
