// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// testSink keeps what it is given, or fails.
type testSink struct {
	mu      sync.Mutex
	buffers [][]vault.Record
	err     error
	before  func() // the next one
}

func (s *testSink) Append(ctx context.Context, rs []vault.Record) error {
	s.mu.Lock()
	before := s.before
	s.before = nil
	s.mu.Unlock()
	if before != nil { // the disk was waited for
		if before(); ctx.Err() != nil {
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.buffers = append(s.buffers, slices.Clone(rs))
	}
	return s.err
}

func (s *testSink) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *testSink) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// beforeNext has f called before the next records are kept.
func (s *testSink) beforeNext(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// take returns what came since the last call, in words, and in how many calls.
func (s *testSink) take() (words []string, calls int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.buffers {
		for i := range b {
			words = append(words, recordWords(&b[i]))
		}
	}
	calls, s.buffers = len(s.buffers), nil
	return words, calls
}

// checkWhose looks at what take will return: each record says who has done it.
func (s *testSink) checkWhose(t *testing.T, what string, want vault.Actor) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.buffers {
		for i := range b {
			if got := whose(&b[i]); got != want {
				t.Errorf("%s: %s by %+v, want %+v", what, recordWords(&b[i]), got, want)
			}
		}
	}
}

// whose is the rest of what they compare.
func whose(r *vault.Record) vault.Actor {
	return vault.Actor{Name: r.Actor, Role: r.SessionRole, Via: r.Face, Addr: r.Addr, Database: r.Database}
}

// recordWords is what the tests compare of a record.
func recordWords(r *vault.Record) string {
	w := []string{string(r.Action), string(r.Outcome)}
	if r.Reason != "" {
		w = append(w, "("+r.Reason+")")
	}
	if r.Secret != "" {
		w = append(w, r.Secret)
	}
	if r.Version != 0 {
		w = append(w, "v"+strconv.Itoa(int(r.Version)))
	}
	if r.Change != 0 {
		w = append(w, "change")
	}
	if r.Direct {
		w = append(w, "direct")
	}
	if r.Statement != 0 {
		w = append(w, "statement")
	}
	return strings.Join(w, " ")
}

// recordingSession is a session of a node with an audit, in a database with a vault.
func recordingSession(t *testing.T) (sink *testSink, client, server net.Conn) {
	t.Helper()
	_, sink, client, server = recordedSession(t)
	return sink, client, server
}

// recordedSession is one; before may change it before it runs.
func recordedSession(t *testing.T, before ...func(*session)) (ss *session, sink *testSink, client, server net.Conn) {
	t.Helper()
	sink = &testSink{}
	pin, err := vault.PinVaultID(filepath.Join(t.TempDir(), "audit"), "")
	if err != nil {
		t.Fatal(err)
	}
	core, err := vault.New(vault.Config{
		Node: "test", Local: vault.Server{Network: "tcp", Addr: "127.0.0.1:1"}, User: "s", Database: "d", Pin: pin, Audit: sink, Logins: vault.LoginsAll,
		NewSealer: func(envelope.UUID) (*envelope.Sealer, error) { return nil, errors.New("none") },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(core.Close)
	ss, client, server = newSession(t, catalog{sealed: 20001, array: 20002})
	ss.srv.cfg.Vault = core
	ss.srv.cfg.Analyzer = rewrite.NewAnalyzer(rewrite.Config{CacheBytes: 1 << 20, CheckName: envelope.CheckName})
	for _, f := range before {
		f(ss)
	}
	go ss.srv.parker.Run()
	ss.srv.wg.Add(1)
	go ss.srv.run(ss)
	return ss, sink, client, server
}

func reportMessage(text string) []byte {
	return wire.AppendMessage(nil, wire.ParameterStatus, []byte(vault.ReportName+"\x00"+text+"\x00"))
}

var (
	testRow      = wire.AppendMessage(nil, wire.DataRow, []byte{0, 1, 0, 0, 0, 1, 't'})
	testComplete = wire.AppendMessage(nil, wire.CommandComplete, []byte("SELECT 1\x00"))
	testReady    = wire.AppendReady(nil, wire.Idle)
)

// answered reads the client's answers up to ReadyForQuery, or the end ("|").
func answered(t *testing.T, client net.Conn) (types string, code string) {
	t.Helper()
	for {
		typ, body, err := nextMessage(client)
		if err != nil {
			return types + "|", code
		}
		types += string(typ)
		switch typ {
		case wire.ErrorResponse:
			code = readAskError(body).code
		case wire.ReadyForQuery:
			return types, code
		}
	}
}

func nextMessage(nc net.Conn) (typ byte, body []byte, err error) {
	if err := nc.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return 0, nil, err
	}
	var head [wire.HeaderSize]byte
	if _, err := io.ReadFull(nc, head[:]); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint32(head[1:])-4)
	_, err = io.ReadFull(nc, body)
	return head[0], body, err
}

func write(t *testing.T, nc net.Conn, msgs ...[]byte) {
	t.Helper()
	if _, err := nc.Write(slices.Concat(msgs...)); err != nil {
		t.Fatal(err)
	}
}

// received reads one message of the session's at the server.
func received(t *testing.T, server net.Conn) (typ byte, body string) {
	t.Helper()
	typ, b, err := nextMessage(server)
	if err != nil {
		t.Fatal(err)
	}
	return typ, string(b)
}
