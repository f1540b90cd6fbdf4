// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// reset closes a connection so that the other side's next write fails.
func reset(t *testing.T, nc net.Conn) {
	t.Helper()
	if tc, ok := nc.(*net.TCPConn); !ok || tc.SetLinger(0) != nil || tc.Close() != nil {
		t.Fatal("the connection cannot be reset")
	}
}

// isOver waits until nothing is left of the session.
func isOver(t *testing.T, ss *session) {
	t.Helper()
	over := make(chan struct{})
	go func() { ss.srv.wg.Wait(); close(over) }()
	select {
	case <-over:
	case <-time.After(20 * time.Second):
		t.Fatal("the session does not end")
	}
}

// However a session ends while its server works: what the server then reports is
// recorded, and of a row that was on its way the rest is nothing else.
func TestHeardOut(t *testing.T) {
	const query = "select vault.delete_secret('a')"
	row := wire.AppendMessage(nil, wire.DataRow, append([]byte{0, 1, 0, 2, 0, 0}, make([]byte, 2<<16)...))
	half := len(row) / 2
	large := func(size, sent int) []byte {
		return append([]byte{wire.Query, 0, byte(size >> 16), byte(size >> 8), byte(size)}, make([]byte, sent)...)
	}
	for name, tt := range map[string]struct {
		first, rest []byte // what the server says before and after
		full        bool   // no record can be written before
		end         func(t *testing.T, ss *session, sink *testSink, client, server net.Conn)
	}{
		"too large": {end: func(t *testing.T, _ *session, _ *testSink, client, _ net.Conn) {
			t.Helper()
			write(t, client, large(2<<20, 0))
		}},
		"no room": {end: func(t *testing.T, ss *session, _ *testSink, client, _ net.Conn) {
			t.Helper()
			ss.srv.held.SetMax(0)
			write(t, client, large(1<<19, 1<<18))
		}},
		"the node ends it": {end: func(_ *testing.T, ss *session, _ *testSink, _, _ net.Conn) { ss.terminate(errShutdown) }},
		"twice":            {end: func(_ *testing.T, ss *session, _ *testSink, _, _ net.Conn) { ss.terminate(errReplaced); ss.end() }},
		"the client breaks off": {end: func(t *testing.T, _ *session, _ *testSink, client, _ net.Conn) {
			t.Helper()
			reset(t, client)
		}},
		"the client says goodbye and breaks off": {
			first: row[:half], rest: row[half:],
			end: func(t *testing.T, _ *session, _ *testSink, client, server net.Conn) {
				t.Helper()
				write(t, client, wire.AppendEmpty(nil, wire.Terminate))
				received(t, server)
				reset(t, client)
			},
		},
		"in the middle of a row": {
			first: row[:half], rest: row[half:],
			end: func(t *testing.T, _ *session, _ *testSink, client, _ net.Conn) {
				t.Helper()
				reset(t, client)
			},
		},
		"what cannot be read": {first: slices.Concat(reportMessage("delete ok"), testRow, testComplete), end: func(*testing.T, *session, *testSink, net.Conn, net.Conn) {}},
		"what cannot be recorded": {
			full: true, first: slices.Concat(reportMessage("list ok - 0 0 a"), testComplete),
			end: func(_ *testing.T, ss *session, sink *testSink, _, _ net.Conn) { ends(ss); sink.fail(nil) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			ss, sink, client, server := recordedSession(t)
			write(t, client, wire.AppendQuery(nil, query))
			if _, got := received(t, server); got != query+"\x00" {
				t.Fatalf("the server got %q", got)
			}
			if tt.full {
				sink.fail(errors.New("full"))
			}
			write(t, server, tt.first)
			tt.end(t, ss, sink, client, server)
			if _, err := io.Copy(io.Discard, server); err != nil {
				t.Fatalf("the server does not see the end: %v", err)
			}
			write(t, server, tt.rest, reportMessage("delete ok - 1 5 a"), testComplete, testReady)
			server.Close()
			isOver(t, ss)
			got, _ := sink.take()
			if want := "delete ok a v1 change direct statement"; !slices.Contains(got, want) {
				t.Errorf("recorded %q, want %q", got, want)
			}
		})
	}
}

// ends waits until the session has begun to end.
func ends(ss *session) {
	for over := false; !over; time.Sleep(time.Millisecond) { //nolint:forbidigo // polls
		ss.mu.Lock()
		over = ss.ended
		ss.mu.Unlock()
	}
}

// What is reported at the very end is recorded once.
func TestHeardOnce(t *testing.T) {
	ss, sink, client, server := recordedSession(t)
	write(t, client, wire.AppendQuery(nil, "select f()"))
	received(t, server)
	ss.mu.Lock()
	ss.ended = true
	ss.mu.Unlock()
	write(t, server, testRow, reportMessage("delete ok - 1 5 a"), testComplete, testReady)
	if _, err := io.Copy(io.Discard, server); err != nil {
		t.Fatal(err)
	}
	server.Close()
	isOver(t, ss)
	if got, _ := sink.take(); !slices.Equal(got, []string{"delete ok a v1 change"}) {
		t.Errorf("recorded %q", got)
	}
}

// A panic at the record of one report leaves the next.
func TestHeardOutAfterAPanic(t *testing.T) {
	ss, sink, client, server := recordedSession(t)
	sink.beforeNext(func() { panic("test") })
	write(t, client, wire.AppendQuery(nil, "select f()"))
	received(t, server)
	write(t, server, reportMessage("delete ok - 1 5 a"), testComplete)
	if _, err := io.Copy(io.Discard, server); err != nil {
		t.Fatal(err)
	}
	write(t, server, reportMessage("delete ok - 1 6 b"), testComplete, testReady)
	server.Close()
	isOver(t, ss)
	if got, _ := sink.take(); !slices.Equal(got, []string{"delete ok b v1 change"}) {
		t.Errorf("recorded %q", got)
	}
}

// What the server runs for a session that has ended is cancelled, one statement after
// the other; a server that goes on all the same is left alone in the end.
func TestHeardOutIsBounded(t *testing.T) {
	for name, tt := range map[string]struct {
		leaves bool
		stops  int // the server says all after so many cancels; 0: never
	}{
		"a pipeline":              {stops: 3},
		"goodbye":                 {leaves: true, stops: 1},
		"a server that goes on":   {},
		"the same, after goodbye": {leaves: true},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			ss, sink, client, server := recordedSession(t)
			ss.server().secret, ss.server().at = []byte("1234"), &upstream{Server: vault.Server{Network: "tcp", Addr: l.Addr().String()}}
			write(t, client, wire.AppendQuery(nil, "select f()"))
			received(t, server)
			write(t, server, reportMessage("delete ok - 1 5 a"))
			if tt.leaves {
				write(t, client, wire.AppendEmpty(nil, wire.Terminate))
				received(t, server)
			}
			ss.terminate(errShutdown)
			for n := 1; ; n++ {
				nc, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(io.LimitReader(nc, 16)); err != nil || len(got) != 16 {
					t.Fatalf("cancel request %q, %v", got, err)
				}
				nc.Close()
				if n == max(tt.stops, 1) {
					break
				}
			}
			want := []string{"delete ok a v1 change"}
			if tt.stops > 0 {
				write(t, server, reportMessage("delete ok - 1 6 b"), testComplete, testReady)
				server.Close()
				want = append(want, "delete ok b v1 change")
			} else {
				go func() {
					for nc, err := l.Accept(); err == nil; nc, err = l.Accept() {
						nc.Close()
					}
				}()
			}
			isOver(t, ss)
			if got, _ := sink.take(); !slices.Equal(got, want) {
				t.Errorf("recorded %q, want %q", got, want)
			}
			if tt.stops > 0 {
				return
			}
			if _, err := io.Copy(io.Discard, server); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Log(err) // the end, and then the reset
			}
			for err = nil; err == nil; { // nothing that the server writes is taken any more
				_, err = server.Write(testRow)
			}
		})
	}
}

// A report belongs to the statement at which the server is.
func TestAnswered(t *testing.T) {
	types := func(q *replyQueue) (kinds []owedKind) {
		for i := range q.len() {
			kinds = append(kinds, q.at(i).kind)
		}
		return kinds
	}
	for _, tt := range []struct {
		owed []owedKind
		said string
		want []owedKind
	}{
		{[]owedKind{oweParse, oweBind, oweDescribePortal, oweExecute, oweSync, oweQuery}, "12TDDCZ", []owedKind{oweQuery}},
		{[]owedKind{oweParse, oweDescribe, oweClose, oweSync}, "1tn3", []owedKind{oweSync}},
		{[]owedKind{oweQuery, oweQuery}, "TDCSDC", []owedKind{oweQuery, oweQuery}},
		{[]owedKind{oweQuery, oweQuery}, "TDEZ", []owedKind{oweQuery}},
		{[]owedKind{oweParse, oweBind, oweExecute, oweSync, oweQuery}, "1EZ", []owedKind{oweQuery}},
		{[]owedKind{oweParse, oweBind}, "E", nil},
		{[]owedKind{oweCall, oweExecute, oweSync}, "VZs", []owedKind{oweSync}},
		{nil, "SNEZ", nil},
	} {
		q := &replyQueue{}
		for _, k := range tt.owed {
			q.push(owed{kind: k})
		}
		for i := range len(tt.said) {
			q.answered(tt.said[i])
		}
		if got := types(q); !slices.Equal(got, tt.want) {
			t.Errorf("%v, answered %s: %v is owed, want %v", tt.owed, tt.said, got, tt.want)
		}
	}
}
