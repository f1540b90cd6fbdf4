// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"context"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

const (
	// goneEvery is how often a client that has stopped writing is asked whether
	// it still reads.
	goneEvery = time.Second
	// abandonTimeout bounds the cancelling of what nobody waits for any more,
	// drainTimeout what is left of it when the node ends.
	abandonTimeout = 30 * time.Second
	drainTimeout   = 2 * time.Second
)

// watchGone ends the session of a client that has closed its connection while
// the server works for it. To the node that looks as if the client had merely
// stopped writing; the difference shows when it is sent something: so it gets a
// parameter again that it has, which may come at any time. done is closed when
// the back has ended.
func (ss *session) watchGone(done <-chan struct{}) {
	tick := time.NewTicker(goneEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		if !ss.probe() {
			ss.end()
			return
		}
	}
}

// probe reports whether the client can still be written to. If the back is just
// at work it will see for itself.
func (ss *session) probe() bool {
	if !ss.mu.TryLock() {
		return true
	}
	encoding, skip := ss.encoding, ss.leaving || ss.queue.len() == 0
	ss.mu.Unlock()
	if skip || encoding == "" || !ss.cmu.TryLock() {
		return true
	}
	defer ss.cmu.Unlock()
	body := wire.AppendString(wire.AppendString(nil, "client_encoding"), encoding)
	_, err := ss.client.Write(wire.AppendMessage(nil, wire.ParameterStatus, body))
	return err == nil
}

var (
	errLost       = fatalError(stateConnection, "the connection to the primary was lost", "Connect again.")
	errLostAtWork = fatalError(stateUnknown, "the connection to the primary was lost while it was at work",
		"Connect again, and look whether what was under way was done before you do it once more.")
)

// serverEnded notes that it was the server that ended the session, by err. The end of the server
// beside the node its client sees as it would without the node; of a primary elsewhere
// that ended without a word the client could know nothing, so it is told.
func (ss *session) serverEnded(err error) error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	said := ss.serverGone
	ss.serverGone = !ss.ended
	switch owes := ss.queue.len() > 0; {
	case ss.ended || said || !ss.server().remote():
		return err
	case owes:
		return errLostAtWork
	case ss.leaving || ss.halfClosed:
		return err
	}
	return errLost
}

// abandon cancels what the server still does for a session that has ended, as
// the server itself does only at its next answer.
func (ss *session) abandon(l *leg) {
	if len(l.secret) == 0 {
		return
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ss.srv.ctx), abandonTimeout)
	defer stop()
	// The end of the node waits for this.
	defer context.AfterFunc(ss.srv.ctx, func() { time.AfterFunc(drainTimeout, stop) })()
	for !ss.srv.cancelServer(ctx, l, nil) && ctx.Err() == nil { // a busy server may need a while
		select {
		case <-time.After(goneEvery):
		case <-ctx.Done():
		}
	}
}
