// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// maxBalk bounds how much longer a session waits with each time that it could not
// go back.
const maxBalk = 5

// away reports whether the session is at the primary, and may go back to the
// standby beside its node. mu is held.
func (ss *session) away() bool {
	return ss.server().remote() && ss.srv.cfg.MoveBack > 0
}

// restless notes that the session may just have written. mu is held.
func (ss *session) restless() {
	ss.backAt, ss.balked = time.Now().Add(ss.srv.cfg.MoveBack), 0
}

// homing reports whether the session is to go back before the statement that
// comes: it stands alone, and shows no write. It notes what the statement tells of
// that: whether it begins a block that only reads, or may write. mu is held.
func (ss *session) homing(text []byte) bool {
	if !ss.away() || ss.state != wire.Idle || !ss.quiet() {
		return false
	}
	ss.reading = false
	if ss.mayWrite(text) {
		if ss.reading = rewrite.BeginsReading(text); !ss.reading {
			ss.restless()
			return false
		}
	}
	return ss.due()
}

// due reports whether it is time to go back, and possible. mu is held.
func (ss *session) due() bool {
	return ss.away() && ss.state == wire.Idle && ss.quiet() && time.Now().After(ss.backAt)
}

// home takes the session back if it is time. Whether it comes about or not, the
// message is to be looked at once more.
func (ss *session) home(typ byte, body []byte) (v verdict, ordered bool, err error) {
	ss.mu.Lock()
	due := ss.homesWith(typ, body)
	ss.mu.Unlock()
	if !due {
		return pass, false, nil
	}
	failed, err := ss.orderMove(true)
	switch {
	case err != nil || failed == nil:
		return again, true, err
	case failed.code == stateCanceled:
		v, err = drop, ss.refuse(typ, body, failed)
		return v, true, err
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.backAt = time.Now().Add(ss.srv.cfg.MoveBack << ss.balked)
	ss.balked = min(ss.balked+1, maxBalk)
	return again, true, nil
}

// homesWith is homing for any message. mu is held.
func (ss *session) homesWith(typ byte, body []byte) bool {
	switch typ {
	case wire.Query:
		return ss.homing(body)
	case wire.Parse:
		_, text, _ := bytes.Cut(body, []byte{0})
		return ss.homing(text)
	case wire.Bind:
		if _, name, _, ok := bindNames(body); ok {
			st, sealed := ss.bindTarget(name)
			return !sealed && ss.homesBound(st)
		}
	}
	return false
}

// homesBound is homing for a Bind of st. mu is held.
func (ss *session) homesBound(st *statement) bool {
	if st != nil && st.route != rewrite.RouteLocal {
		if ss.away() {
			ss.restless()
		}
		return false
	}
	return ss.homing(nil)
}

// refuse answers a Query, Parse or Bind in the server's place.
func (ss *session) refuse(typ byte, body []byte, e *sqlError) error {
	ss.mu.Lock()
	ss.loseText(typ, body)
	ss.mu.Unlock()
	switch typ {
	case wire.Query:
		return ss.refuseQuery(e)
	case wire.Parse:
		name, _, _ := bytes.Cut(body, []byte{0})
		return ss.refuseParse(string(cutName(name)), e)
	}
	return ss.refuseExtended(e)
}
