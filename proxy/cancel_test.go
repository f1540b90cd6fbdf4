// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

var testQuery = wire.AppendQuery(nil, "select f()")

// cancelled is a session that has sent messages to a server which hears cancel requests
// at a listener.
func cancelled(t *testing.T, mode SSLMode, sent ...[]byte) (ss *session, l *net.TCPListener, client, server net.Conn) {
	t.Helper()
	ss, _, client, server = recordedSession(t)
	l, ss.server().at = hearing(t, mode)
	ss.server().secret = []byte("1234")
	write(t, client, sent...)
	for range sent {
		received(t, server)
	}
	return ss, l, client, server
}

// hearing is a server that hears cancel requests.
func hearing(t *testing.T, mode SSLMode) (*net.TCPListener, *upstream) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // nothing is pending
	return l, &upstream{Server: vault.Server{Network: "tcp", Addr: l.Addr().String()}, tls: &ServerTLS{Mode: mode}}
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
	ss, l, _, _ := cancelled(t, SSLDisable, testQuery)
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	ended := make(chan struct{}, 11)
	ask := func() { ss.cancelRunning(ctx); ended <- struct{}{} }
	go ask()
	first := accept(t, l, 16)
	for range 10 {
		go ask()
	}
	for range 11 - maxDeliveries { // there is no room for so many to wait
		<-ended
	}
	untilAsked(ctx, ss, 11)
	first.Close()
	accept(t, l, 16).Close()
	for range maxDeliveries {
		<-ended
	}
	if ctx.Err() != nil {
		t.Error("somebody still waited")
	}
	heardNoMore(t, l)
}

// untilAsked returns when so many requests have come.
func untilAsked(ctx context.Context, ss *session, n uint64) {
	for asked := uint64(0); asked < n && ctx.Err() == nil; time.Sleep(time.Millisecond) { //nolint:forbidigo // nothing tells
		ss.cancels.mu.Lock()
		asked = ss.cancels.asked
		ss.cancels.mu.Unlock()
	}
}

func heardNoMore(t *testing.T, l *net.TCPListener) {
	t.Helper()
	if err := l.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if nc, err := l.Accept(); err == nil {
		nc.Close()
		t.Error("the server heard one more")
	}
}

// Who waits for a request that does not get there asks himself.
func TestCancelBehindOneThatFails(t *testing.T) {
	ss, l, _, _ := cancelled(t, SSLPrefer, testQuery)
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	first, give := context.WithCancel(ctx)
	var asking sync.WaitGroup
	asking.Go(func() { ss.cancelRunning(first) })
	nc := accept(t, l, 8)
	defer nc.Close()
	asking.Go(func() { ss.cancelRunning(ctx) })
	untilAsked(ctx, ss, 2)
	give()
	next := accept(t, l, 8)
	write(t, next, []byte{'N'})
	if got, err := io.ReadAll(io.LimitReader(next, 16)); err != nil || len(got) != 16 {
		t.Errorf("cancel request %q, %v", got, err)
	}
	next.Close()
	asking.Wait()
	heardNoMore(t, l)
}

// A request that reaches the server only when the client has been told that all is over
// would hit what that sends next, or has sent: it is not sent.
func TestLateCancelIsNotSent(t *testing.T) {
	message := func(typ byte) []byte { return wire.AppendMessage(nil, typ, nil) }
	for name, c := range map[string]struct{ sent, answers, next [][]byte }{
		"told":                     {[][]byte{testQuery}, [][]byte{testComplete, testReady}, nil},
		"told, and asked for more": {[][]byte{testQuery}, [][]byte{testComplete, testReady}, [][]byte{testQuery}},
		"told before a Sync": {
			[][]byte{wire.AppendParse(nil, "", "select f()"), wire.AppendBind(nil, "", ""), wire.AppendDescribe(nil, 'P', ""), wire.AppendExecute(nil, ""), message(wire.Flush)},
			[][]byte{message(wire.ParseComplete), message(wire.BindComplete), message(wire.NoData), testComplete},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			ss, l, client, server := cancelled(t, SSLPrefer, c.sent...)
			ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
			defer stop()
			var asking sync.WaitGroup
			asking.Go(func() { ss.cancelRunning(ctx) })
			nc := accept(t, l, 8)
			write(t, server, c.answers...)
			for _, want := range c.answers {
				if typ, _ := received(t, client); typ != want[0] {
					t.Fatalf("got %q, want %q", typ, want[0])
				}
			}
			write(t, client, c.next...)
			for range c.next {
				received(t, server)
			}
			write(t, nc, []byte{'N'})
			if got, err := io.ReadAll(io.LimitReader(nc, 1)); err != nil || len(got) > 0 {
				t.Errorf("got %d bytes, %v, want none", len(got), err)
			}
			nc.Close()
			asking.Wait()
		})
	}
}

// The session moves while its request is being brought to the server: that one gets
// nothing, and the one to which it has gone gets it.
func TestCancelGoesWhereTheSessionIs(t *testing.T) {
	ss, l, _, _ := cancelled(t, SSLPrefer, testQuery)
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	var asking sync.WaitGroup
	asking.Go(func() { ss.cancelRunning(ctx) })
	nc := accept(t, l, 8)
	defer nc.Close()
	there, up := hearing(t, SSLDisable)
	next := *ss.server()
	next.at, next.pid, next.secret = up, 4711, []byte("5678")
	ss.leg.Store(&next)
	write(t, nc, []byte{'N'})
	if got, err := io.ReadAll(io.LimitReader(nc, 1)); err != nil || len(got) > 0 {
		t.Errorf("the server that it has left got %d bytes, %v, want none", len(got), err)
	}
	accept(t, there, 16).Close()
	asking.Wait()
	heardNoMore(t, l)
	heardNoMore(t, there)
}

// A session that ends takes the request that is on its way with it.
func TestCancelEndsWithItsSession(t *testing.T) {
	ss, l, _, server := cancelled(t, SSLDisable, testQuery)
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	var asking sync.WaitGroup
	for range 2 {
		asking.Go(func() { ss.cancelRunning(ctx) })
	}
	nc := accept(t, l, 16)
	defer nc.Close()
	untilAsked(ctx, ss, 2)
	server.Close()
	asking.Wait()
	if ctx.Err() != nil {
		t.Error("they waited for the server")
	}
	heardNoMore(t, l)
}
