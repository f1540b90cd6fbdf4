// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"errors"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// drain ends the session at its next idle point.
func (ss *session) drain() {
	ss.mu.Lock()
	ss.closing = true
	over := ss.drained()
	ss.mu.Unlock()
	if over {
		ss.terminate(errShutdown)
	}
}

// drained reports whether a session that is to be drained is at an idle point, and
// lets its front send nothing more if so: what ran then would be answered by the
// end. Who asks ends the session. mu is held.
func (ss *session) drained() bool {
	if !ss.closing || ss.working || !ss.quiet() || ss.state != wire.Idle {
		return false
	}
	ss.ended, ss.last = true, errShutdown
	return true
}

// lastWord is why the back ends: if somebody else has ended the session, and has a last
// word for the client, the back says it. It closes the connection next, and the other
// one may come too late.
func (ss *session) lastWord(err error) error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if errors.Is(err, errEnded) && ss.last != nil {
		return ss.last
	}
	return err
}
