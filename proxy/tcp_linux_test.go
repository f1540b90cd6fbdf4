// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// TestTune asks the kernel what a client's socket has from the limits.
func TestTune(t *testing.T) {
	tuned(t, func(t *testing.T, s *Server, listener net.Listener) net.Conn {
		t.Helper()
		client, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		accepted, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s.tune(accepted)
		return accepted
	})
}

// TestTuneServer asks it of a session's connection to its server.
func TestTuneServer(t *testing.T) {
	tuned(t, func(t *testing.T, s *Server, listener net.Listener) net.Conn {
		t.Helper()
		up := s.upstream(vault.Server{Network: "tcp", Addr: listener.Addr().String()})
		nc, err := up.dialOnce(t.Context(), s, SSLDisable)
		if err != nil {
			t.Fatal(err)
		}
		return nc
	})
}

// tuned looks at the leg that open makes.
func tuned(t *testing.T, open func(*testing.T, *Server, net.Listener) net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
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
			s := &Server{}
			s.SetLimits(c.limits)
			leg := open(t, s, listener)
			t.Cleanup(func() { leg.Close() })
			raw, err := leg.(*net.TCPConn).SyscallConn()
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
