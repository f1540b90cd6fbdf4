// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import "github.com/hyperiondb/hyperion-vault/proxy/wire"

// wait blocks the front until ok, which is called with mu held. It does not
// read the client meanwhile; what the server has for the client goes on.
func (ss *session) wait(ok func() bool) error {
	for !ok() {
		if ss.ended {
			return errEnded
		}
		if ss.copyHangs() {
			return errInCopy
		}
		ss.waiting = true
		ss.cond.Wait()
	}
	ss.waiting = false
	return nil
}

// awaitReady waits until the server owes no ReadyForQuery. A Sync in front of copy data
// is owed one until the copy's end has been said, and for that the server is asked:
// the client may go on without a Sync. mu is held, and given up.
func (ss *session) awaitReady() error {
	if ss.queue.len() > 0 && ss.queue.copied > 0 && ss.queue.ends > 0 {
		ss.mu.Unlock()
		err := ss.send(wire.AppendEmpty(nil, wire.Flush))
		ss.mu.Lock()
		if err != nil {
			return err
		}
	}
	return ss.wait(func() bool { return ss.queue.ends == 0 })
}

// await waits for what has to be known before a message is looked at, and finds out
// what the server has to be asked. It may be over already: then nothing waited.
func (ss *session) await(typ byte) (waited bool, err error) {
	ss.mu.Lock()
	refresh := ss.doubtful && ss.canAsk()
	ss.mu.Unlock()
	if refresh {
		return true, ss.refreshCatalog()
	}
	return ss.passGate(typ)
}

// mustWait reports whether a message waits for the answer of a statement before it. A
// Sync among copy data, which the server ignores, does not. mu is held.
func (ss *session) mustWait(typ byte) bool {
	return (ss.gate == gateReady || ss.inFlight()) && !ss.amongData(typ)
}

// inFlight reports whether a statement has to wait for the one before. At a
// standby it must be known whether a block is open, and the statement may have to
// run again elsewhere; that it does is what a trial still tells when the session is
// there already. mu is held.
func (ss *session) inFlight() bool { return ss.queue.ends > 0 && (ss.roams() || ss.trial != nil) }

// copyHangs reports whether the server waits for copy data that the client, who
// has sent something else, does not send: then nobody would ever answer. mu is
// held.
func (ss *session) copyHangs() bool {
	e := ss.queue.front()
	return e != nil && e.copyIn && !ss.dropping && ss.queue.copied == 0
}

// amongData reports whether a message is a Sync among copy data, which the server
// ignores: it waits for nothing. mu is held.
func (ss *session) amongData(typ byte) bool { return typ == wire.Sync && ss.copyHangs() }

var errInCopy = fatalError(stateProtocol, "unexpected message during COPY from stdin", "")
