// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// cancelled is a session that has sent a query to a server which hears cancel requests
// at a listener.
func cancelled(t *testing.T, mode SSLMode) (ss *session, l *net.TCPListener, client, server net.Conn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // nothing is pending
	ss, _, client, server = recordedSession(t)
	ss.server().secret, ss.server().at = []byte("1234"), &upstream{
		Server: vault.Server{Network: "tcp", Addr: l.Addr().String()}, tls: &ServerTLS{Mode: mode},
	}
	write(t, client, wire.AppendQuery(nil, "select f()"))
	received(t, server)
	return ss, l, client, server
}

func accept(t *testing.T, l *net.TCPListener, length int) net.Conn {
	t.Helper()
	if err := l.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(nc, make([]byte, length)); err != nil {
		t.Fatal(err)
	}
	return nc
}

// However often a client asks, a server that is busy hears one request at a time: the
// one that is on its way, and one more for all who asked behind it.
func TestCancelsShareADelivery(t *testing.T) {
	ss, l, _, _ := cancelled(t, SSLDisable)
	var asking sync.WaitGroup
	ask := func() { asking.Go(func() { ss.cancelRunning(t.Context()) }) }
	ask()
	first := accept(t, l, 16)
	for range 10 {
		ask()
	}
	begun := time.Now()
	for full := false; !full && time.Since(begun) < 20*time.Second; time.Sleep(time.Millisecond) { //nolint:forbidigo // until they wait
		ss.cancels.mu.Lock()
		full = ss.cancels.waiting == maxDeliveries
		ss.cancels.mu.Unlock()
	}
	first.Close()
	accept(t, l, 16).Close()
	asking.Wait()
	if err := l.SetDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if nc, err := l.Accept(); err == nil {
		nc.Close()
		t.Error("the server heard a third one")
	}
}

// A request that reaches the server only when the session is idle again would hit what
// the client sends next: it is not sent.
func TestLateCancelIsNotSent(t *testing.T) {
	ss, l, client, server := cancelled(t, SSLPrefer)
	var asking sync.WaitGroup
	asking.Go(func() { ss.cancelRunning(t.Context()) })
	nc := accept(t, l, 8)
	write(t, server, testComplete, testReady)
	if types, _ := answered(t, client); types != "CZ" {
		t.Fatalf("got %s", types)
	}
	write(t, nc, []byte{'N'})
	if got, err := io.ReadAll(io.LimitReader(nc, 1)); err != nil || len(got) > 0 {
		t.Errorf("got %d bytes, %v, want none", len(got), err)
	}
	nc.Close()
	asking.Wait()
}
