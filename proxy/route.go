// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// Routing says which statements of a session beside a standby go to the primary.
type Routing int

// The values of VAULT_ROUTE_WRITES.
const (
	// RouteAll sends the session there with its first write, or block that is not
	// read-only.
	RouteAll Routing = iota
	// RouteVault does so for the vault's own writes outside blocks.
	RouteVault
	// RouteOff does so for nothing.
	RouteOff
)

// roams reports whether messages of this session may have to run at the primary:
// it is at a standby, and writes. mu is held.
func (ss *session) roams() bool {
	return ss.standby && !ss.readOnly && !ss.replication && ss.srv.cfg.Routing != RouteOff
}

// mayMove is a first look at a text that is to run, up to its zero byte. mu is
// held.
func (ss *session) mayMove(body []byte) bool {
	return ss.roams() && ss.state == wire.Idle && ss.mayWrite(body)
}

// parseMoves reports whether a Parse has to be looked at: it shall run elsewhere,
// or, being named, may do so later and in another block. mu is held.
func (ss *session) parseMoves(text []byte, named bool) bool {
	switch {
	case ss.roams():
		return (named || ss.state == wire.Idle) && ss.mayWrite(text)
	case ss.away():
		return ss.homing(text) || named && ss.mayWrite(text)
	}
	return false
}

func (ss *session) mayWrite(body []byte) bool {
	text, _, _ := bytes.Cut(body, []byte{0})
	return rewrite.MayMove(text)
}

// elsewhereBound reports whether a Bind of st may have to run at another server
// than the session is at. mu is held.
func (ss *session) elsewhereBound(st *statement) bool {
	if ss.roams() {
		return st != nil && ss.moves(st.route) && ss.state == wire.Idle
	}
	return ss.homesBound(st)
}

// moves reports whether a statement of this route leaves the standby.
func (ss *session) moves(r rewrite.Route) bool {
	if ss.srv.cfg.Routing == RouteVault {
		return r == rewrite.RouteVault
	}
	return r != rewrite.RouteLocal
}

// routeOf asks the rewrite where a text can run.
func (ss *session) routeOf(text string, extended bool) rewrite.Route {
	ss.mu.Lock()
	settled, roams := !ss.batch.executed, ss.roams() || ss.away()
	ss.mu.Unlock()
	if !roams {
		return rewrite.RouteLocal
	}
	return ss.srv.cfg.Analyzer.Route(text, ss.options(extended, settled))
}

// wanted is the route of the statement that a message would run. A named one
// moves when it is bound: drivers prepare what they may never run.
func (ss *session) wanted(typ byte, body []byte) rewrite.Route {
	switch typ {
	case wire.Query:
		return ss.routeOf(string(bytes.TrimSuffix(body, []byte{0})), false)
	case wire.Parse:
		if name, rest, ok := bytes.Cut(body, []byte{0}); ok && len(name) == 0 {
			if text, _, ok := bytes.Cut(rest, []byte{0}); ok {
				return ss.routeOf(string(text), true)
			}
		}
	case wire.Bind:
		if _, name, _, ok := bindNames(body); ok {
			ss.mu.Lock()
			defer ss.mu.Unlock()
			if st, _ := ss.bindTarget(name); st != nil && ss.roams() {
				return st.route
			}
		}
	}
	return rewrite.RouteLocal
}

// relocate waits for what has to be known first, and takes the session where the
// message belongs: handled says that the message is dealt with, or to be looked at
// once more. Of a Bind the names are enough.
func (ss *session) relocate(typ byte, body []byte) (v verdict, handled bool, err error) {
	if waited, err := ss.await(typ); waited || err != nil {
		return again, waited, err
	}
	if v, handled, err = ss.home(typ, body); handled || err != nil {
		return v, handled, err
	}
	return ss.reroute(typ, body)
}

// reroute takes the session to the primary if that is where the message belongs.
// handled: the message is dealt with, or to be looked at once more.
func (ss *session) reroute(typ byte, body []byte) (v verdict, handled bool, err error) {
	ss.mu.Lock()
	roams := ss.roams()
	ss.mu.Unlock()
	if !roams {
		return pass, false, nil
	}
	route := ss.wanted(typ, body)
	if !ss.moves(route) {
		return pass, false, nil
	}
	state, skipped, err := ss.settle()
	if err != nil || skipped || state != wire.Idle {
		return pass, false, err
	}
	if typ != wire.Bind { // the message takes the unnamed statement's place
		ss.mu.Lock()
		ss.unnamedLost = false
		ss.mu.Unlock()
	}
	failed := ss.openHere(typ, body)
	if failed == nil {
		failed, err = ss.orderMove(false)
	}
	switch {
	case err != nil:
		return pass, false, err
	case failed == nil:
		return again, true, nil
	case route == rewrite.RouteBlock && failed.code != stateCanceled:
		warning := *failed
		warning.message = "this block cannot write: the session could not go to the primary"
		return pass, false, ss.local(warning.appendWarning(nil))
	}
	return drop, true, ss.refuse(typ, body, failed)
}

// openHere refuses a write in a batch that has something open at the standby,
// which ends with the batch. An unnamed portal whose place the message takes would
// be gone anyway.
func (ss *session) openHere(typ byte, body []byte) *sqlError {
	replaces := typ == wire.Query
	if typ == wire.Bind {
		name, _, _, ok := bindNames(body)
		replaces = ok && len(name) == 0
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.batch.open && (len(ss.portals) > 0 || ss.unfinished && !replaces) {
		return stays("a portal of this batch is open at the standby", "Send the write as a batch of its own.")
	}
	return nil
}

// stays is the error of a write that found no way to the primary.
func stays(why, hint string) *sqlError {
	return &sqlError{code: stateReadOnly, message: "cannot write on a standby, and the session could not go to the primary", detail: "The reason: " + why + ".", hint: hint}
}

// An order asks the back, which owns the leg's reader, for a move.
type order struct {
	home   bool // back to the standby
	batch  bool // reads of an open batch have run at the standby
	done   bool
	failed *sqlError
}

// orderMove has the back take the session to the primary, or home. Nothing is
// owed, and nothing comes from the client meanwhile. failed says why it stays.
func (ss *session) orderMove(home bool) (failed *sqlError, err error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	o := &order{home: home, batch: ss.batch.executed}
	ss.order = o
	ss.server().Park()
	err = ss.wait(func() bool { return o.done })
	if o.failed == nil {
		ss.endTrial() // what the primary refuses is not run there once more
	}
	return o.failed, err
}

// obey carries out an order of the front's, if that is why the back was stopped.
func (ss *session) obey() (obeyed bool, err error) {
	ss.mu.Lock()
	o := ss.order
	ss.order = nil
	fresh := !ss.used
	ss.mu.Unlock()
	if o == nil {
		return false, nil
	}
	ss.smu.Lock()
	var failed *sqlError
	if o.home {
		failed, err = ss.goHome()
	} else {
		failed, err = ss.move(o.batch, fresh, nil)
	}
	ss.smu.Unlock()
	ss.mu.Lock()
	o.done, o.failed = true, failed
	ss.cond.Broadcast()
	ss.mu.Unlock()
	return true, err
}
