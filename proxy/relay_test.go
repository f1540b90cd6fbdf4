// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// relaySession is a logged-in session between two sockets: what the test writes
// to client arrives at server, and back.
func relaySession(t testing.TB, c catalog) (client, server net.Conn) {
	t.Helper()
	_, client, server = runSession(t, c)
	return client, server
}

func runSession(t testing.TB, c catalog) (ss *session, client, server net.Conn) {
	t.Helper()
	ss, client, server = newSession(t, c)
	go ss.srv.parker.Run()
	ss.srv.wg.Add(1)
	go ss.srv.run(ss)
	return ss, client, server
}

// newSession is a session that has logged in and does not run yet.
func newSession(t testing.TB, c catalog) (ss *session, client, server net.Conn) {
	t.Helper()
	nearClient, client := pair(t)
	nearServer, server := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	srv := newServer(ctx, cancel, Config{Vault: new(vault.Vault), Limits: Limits{MaxQuery: 1 << 20}, Log: slog.New(slog.DiscardHandler)}, newMetrics())
	parker, err := wire.NewParker()
	if err != nil {
		t.Fatal(err)
	}
	srv.parker = parker
	ss = &session{srv: srv, accepted: nearClient, client: wire.NewConn(nearClient), peer: netip.MustParseAddr("127.0.0.1")}
	toServer := wire.NewConn(nearServer)
	ss.use(&leg{Conn: toServer, reader: wire.NewServerReader(toServer), at: srv.local})
	ss.cr = wire.NewClientReader(ss.client)
	ss.cr.Charge(&srv.held)
	ss.catalog, ss.state, ss.encoding, ss.stdStrings = c, wire.Idle, "UTF8", true
	if err := ss.clearDeadlines(); err != nil {
		t.Fatal(err)
	}
	ss.begin()
	t.Cleanup(func() { client.Close(); server.Close(); srv.wg.Wait(); cancel(); parker.Close() })
	return ss, client, server
}

// pair is a connection's two ends.
func pair(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if far, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if near, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// What a client does not send as whole messages arrives unchanged.
func TestRelayStreamsByteByByte(t *testing.T) {
	client, server := relaySession(t, catalog{sealed: 20001, array: 20002})
	ask := wire.AppendQuery(nil, "select 1")
	for i := range ask {
		if _, err := client.Write(ask[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, len(ask))
	if _, err := io.ReadFull(server, got); err != nil || string(got) != string(ask) {
		t.Fatalf("got %q, %v", got, err)
	}
	big := wire.AppendMessage(nil, wire.DataRow, append([]byte{0, 1, 0, 1, 0, 0}, make([]byte, 1<<16)...))
	answer := wire.AppendReady(append(wire.AppendMessage(nil, wire.RowDescription, append([]byte{0, 1, 'c', 0}, make([]byte, 18)...)), big...), wire.Idle)
	go func() {
		for i := 0; i < len(answer); i += 1000 {
			server.Write(answer[i:min(i+1000, len(answer))]) //nolint:errcheck // the reader reports what is missing
		}
	}()
	back := make([]byte, len(answer))
	if _, err := io.ReadFull(client, back); err != nil || string(back) != string(answer) {
		t.Fatalf("the answer changed: %v", err)
	}
}
