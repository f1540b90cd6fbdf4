// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// isParked waits until the session is.
func isParked(t *testing.T, ss *session) {
	t.Helper()
	ss.client.Park()
	deadline := time.Now().Add(20 * time.Second)
	for {
		ss.mu.Lock()
		parked := ss.parked != 0
		ss.mu.Unlock()
		if parked {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the session is not parked")
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // polls
	}
}

// arrives sends a message on one connection and expects it on the other.
func arrives(t *testing.T, from, to net.Conn, msg []byte) {
	t.Helper()
	if _, err := from.Write(msg); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(msg))
	if err := to.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, got); err != nil || string(got) != string(msg) {
		t.Fatalf("got %q, %v; want %q", got, err, msg)
	}
}

func TestParkedSessionRunsOn(t *testing.T) {
	ss, client, server := runSession(t, catalog{})
	query, answer := wire.AppendQuery(nil, "select 1"), wire.AppendReady(wire.AppendMessage(nil, wire.CommandComplete, []byte("SELECT 1\x00")), wire.Idle)
	for range 20 {
		isParked(t, ss)
		arrives(t, client, server, query)
		arrives(t, server, client, answer)
	}
	isParked(t, ss)
	// What the server says by itself.
	arrives(t, server, client, wire.AppendMessage(nil, wire.ParameterStatus, []byte("a\x00b\x00")))
	// In the middle of a statement it is not parked.
	arrives(t, client, server, query)
	ss.client.Park()
	arrives(t, server, client, answer)
}

func TestParkedSessionEnds(t *testing.T) {
	for name, end := range map[string]func(ss *session, client, server net.Conn){
		"the client goes":        func(_ *session, client, _ net.Conn) { client.Close() },
		"the server goes":        func(_ *session, _, server net.Conn) { server.Close() },
		"the node ends it":       func(ss *session, _, _ net.Conn) { ss.terminate(errIdle) },
		"the node shuts down":    func(ss *session, _, _ net.Conn) { ss.drain() },
		"twice at the same time": func(ss *session, client, _ net.Conn) { client.Close(); ss.end() },
	} {
		t.Run(name, func(t *testing.T) {
			ss, client, server := runSession(t, catalog{})
			isParked(t, ss)
			end(ss, client, server)
			ended := make(chan struct{})
			go func() { ss.srv.wg.Wait(); close(ended) }()
			if name == "the client goes" { // the server answers the end of the stream
				if _, err := io.Copy(io.Discard, server); err != nil {
					t.Fatal(err)
				}
				server.Close()
			}
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				t.Fatal("the session does not end")
			}
		})
	}
}

// Only sessions that have nothing to do are parked, after having been seen so
// twice.
func TestParkIdle(t *testing.T) {
	ss, client, server := runSession(t, catalog{})
	arrives(t, client, server, wire.AppendQuery(nil, "select 1"))
	waiting := func() {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ss.client.Waits() == 0 || ss.server().Waits() == 0; time.Sleep(time.Millisecond) { //nolint:forbidigo // polls
			if time.Now().After(deadline) {
				t.Fatal("nobody waits")
			}
		}
	}
	for range 3 {
		waiting()
		if ss.parkable() {
			t.Fatal("a session whose statement runs is parked")
		}
	}
	arrives(t, server, client, wire.AppendReady(wire.AppendMessage(nil, wire.CommandComplete, []byte("SELECT 0\x00")), wire.Idle))
	waiting()
	ss.waits = 0
	if ss.parkable() {
		t.Fatal("a session is parked at once")
	}
	for deadline := time.Now().Add(20 * time.Second); !ss.parkable(); {
		if time.Now().After(deadline) {
			t.Fatal("an idle session is not parked")
		}
	}
}
