// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// lastWord is all that a connection still gives, which has to end with 57P01.
func lastWord(t *testing.T, from io.Reader) {
	t.Helper()
	got, err := io.ReadAll(from)
	if err != nil || !strings.Contains(string(got), "C57P01\x00") {
		t.Fatalf("got %q, %v; want 57P01", got, err)
	}
}

// What a client sends while the node tells it the end is not run: the client would
// take the end for its answer, and send it again elsewhere.
func TestNothingRunsBehindTheDrain(t *testing.T) {
	query := wire.AppendQuery(nil, "insert into t values (1)")
	t.Run("idle", func(t *testing.T) { // and LISTENing
		ss, client, server := runSession(t, catalog{})
		ss.cmu.Lock() // the last word takes its time
		go ss.drain()
		for drains := false; !drains; time.Sleep(time.Millisecond) { //nolint:forbidigo // polls
			ss.mu.Lock()
			drains = ss.closing
			ss.mu.Unlock()
		}
		write(t, client, query)
		write(t, server, wire.AppendMessage(nil, wire.Notification, []byte("\x00\x00\x00\x01ch\x00\x00")))
		time.Sleep(50 * time.Millisecond) //nolint:forbidigo // nothing is to happen
		ss.cmu.Unlock()
		lastWord(t, client)
		if got, err := io.ReadAll(server); err != nil || len(got) > 0 {
			t.Errorf("the server got %q, %v", got, err)
		}
	})
	t.Run("behind an answer", func(t *testing.T) {
		ss, _, _ := newSession(t, catalog{})
		ss.closing = true
		ss.mu.Lock()
		if err := ss.emit(0); !errors.Is(err, errShutdown) || !ss.ended {
			t.Errorf("the back goes on with %v, and the front may send more: %v", err, !ss.ended)
		}
		ss.close()
	})
}

// A message with which the front is at work is not interrupted, though the server
// owes nothing meanwhile; and the session ends once that is done.
func TestDrainLetsTheFrontFinish(t *testing.T) {
	ss, client, server := runSession(t, catalog{})
	ss.mu.Lock()
	ss.working = true // as while the KMS is asked for a key
	ss.mu.Unlock()
	ss.drain()
	ss.mu.Lock()
	if ss.ended || !ss.closing {
		t.Error("it is ended in the middle of a message")
	}
	ss.mu.Unlock()
	if err := ss.local(wire.AppendReady(nil, wire.Idle)); err != nil { // the node refuses it
		t.Fatal(err)
	}
	if !ss.worked() {
		t.Error("nobody ends the session")
	}
	ss.terminate(errShutdown)
	lastWord(t, client)
	server.Close()
	isOver(t, ss)
}
