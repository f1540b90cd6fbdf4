// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

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

// copyHangs reports whether the server waits for copy data that the client, who
// has sent something else, does not send: then nobody would ever answer. mu is
// held.
func (ss *session) copyHangs() bool {
	if e := ss.queue.front(); e == nil || !e.copyIn || ss.dropping {
		return false
	}
	for i := range ss.queue.len() {
		if ss.queue.at(i).ends > 0 {
			return false
		}
	}
	return true
}

var errInCopy = fatalError(stateProtocol, "unexpected message during COPY from stdin", "")
