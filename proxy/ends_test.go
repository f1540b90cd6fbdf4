// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// saidAndLeft sends a message and the end of the stream, and returns when the
// runtime's poller has reported both of near, of which nobody waits: whoever
// takes the message from now on is not told of the end.
func saidAndLeft(t *testing.T, far net.Conn, near syscall.Conn, msg []byte) {
	t.Helper()
	if _, err := far.Write(msg); err != nil {
		t.Fatal(err)
	}
	if err := far.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	raw, err := near.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		if n, err := unix.Poll(fds, 20_000); err != nil || n != 1 {
			t.Errorf("poll: %d, %v", n, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	// The kernel knows. The poller comes round when others wait.
	a, b := pair(t)
	defer b.Close()
	defer a.Close()
	go io.Copy(b, b) //nolint:errcheck // ends with the connection
	for range 50 {
		if _, err := a.Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(a, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
}

// An end that came together with data is seen by the sweeper only, which a
// server that serves has.
func TestServeSweepsEnds(t *testing.T) {
	query, status := wire.AppendQuery(nil, "select 1"), wire.AppendMessage(nil, wire.ParameterStatus, []byte("a\x00b\x00"))
	for name, leaves := range map[string]func(t *testing.T, ss *session, client, server net.Conn) (other net.Conn, msg []byte){
		"the client leaves": func(t *testing.T, ss *session, client, server net.Conn) (net.Conn, []byte) {
			t.Helper()
			saidAndLeft(t, client, ss.client.Net().(*net.TCPConn), query)
			return server, query
		},
		"the server leaves": func(t *testing.T, ss *session, client, server net.Conn) (net.Conn, []byte) {
			t.Helper()
			saidAndLeft(t, server, ss.server().Net().(*net.TCPConn), status)
			return client, status
		},
	} {
		t.Run(name, func(t *testing.T) {
			ss, client, server := newSession(t, catalog{})
			other, msg := leaves(t, ss, client, server)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() { served <- ss.srv.Serve(t.Context(), l) }()
			if err := ss.srv.register(ss); err != nil {
				t.Fatal(err)
			}
			ss.srv.wg.Add(1)
			go ss.srv.run(ss)
			if err := other.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(other)
			if err != nil || string(got) != string(msg) {
				t.Errorf("got %q, %v; want %q and the end", got, err, msg)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			<-served
		})
	}
}
