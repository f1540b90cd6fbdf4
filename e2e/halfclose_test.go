// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"net"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// A client that sends its last message and the end of its stream in one segment
// gets its answer and then the end, and its session at the server ends too.
// What is read with the first is not read again for the second.
func TestTheEndThatComesWithTheLastMessage(t *testing.T) {
	const clients = 20
	app := "half closed"
	conns := make([]*session, clients)
	for i := range conns {
		conns[i] = openSession(t, shared.DSN(0, shared.User)+" application_name='"+app+"'")
	}
	var wg sync.WaitGroup
	for _, s := range conns {
		wg.Go(func() {
			cork(t, s.Net)
			if err := s.Send(rawpg.Query("SELECT 'last'")); err != nil {
				t.Errorf("send: %v", err)
				return
			}
			if err := s.Net.(*net.TCPConn).CloseWrite(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	wg.Wait()
	for _, s := range conns {
		if a := s.read(); len(a.rows) != 1 || a.rows[0] != "last" {
			t.Errorf("the answer: %s", a)
		}
		if a := s.read(); a.status != 0 || a.types != "" {
			t.Errorf("after the answer: %s", a)
		}
	}
	watch := super(t)
	cluster.Eventually(t, "the end of the server's sessions", func() bool {
		return cluster.Text(t, watch, "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = $1", app) == "0"
	})
}

// cork holds back what is written until the connection's end goes with it.
func cork(t *testing.T, nc net.Conn) {
	t.Helper()
	raw, err := nc.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Error(err)
		return
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, 1) })
	if err != nil || failed != nil {
		t.Errorf("TCP_CORK: %v, %v", err, failed)
	}
}
