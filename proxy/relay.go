// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"errors"
	"io"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// verdict says what becomes of a message.
type verdict int

const (
	pass    verdict = iota // forward it as it is
	drop                   // do not forward it
	slow                   // front: it needs a round trip, a wait or other bytes
	again                  // front: look at it once more
	opening                // back: a row with sealed columns
	moving                 // back: what the standby refused goes to the primary
)

// A halt is where a run of messages that pass has ended: at a message of that
// size which does not, or is not whole; size 0: at the end of what is buffered.
type halt struct {
	size int
	v    verdict
	err  error
	set  bool // kept for the walk that follows
}

// front moves the client's messages to the server.
func (ss *session) front() error {
	quick := ss.quickClient
	for {
		if err := ss.cr.Pump(quick); err != nil {
			if errors.Is(err, wire.ErrParked) && ss.busy() {
				continue
			}
			return err
		}
		if err := ss.walkClient(); err != nil {
			return err
		}
	}
}

// quickClient forwards what simply passes; false: something is left for
// walkClient.
func (ss *session) quickClient() bool {
	h := ss.passClient()
	if h.err == nil && h.size == 0 {
		return true
	}
	ss.clientHalt, ss.clientHalt.set = h, true
	return false
}

// walkClient handles what is buffered: runs of messages that nobody must see
// go out in one write.
func (ss *session) walkClient() error {
	h := ss.clientHalt
	if ss.clientHalt = (halt{}); !h.set {
		h = ss.passClient()
	}
	for ; h.err == nil && h.size > 0; h = ss.passClient() {
		if err := ss.oneClient(h.size, h.v); err != nil {
			return err
		}
	}
	return h.err
}

// passClient forwards the run of messages at the buffer's front that pass.
func (ss *session) passClient() (h halt) {
	ss.touch()
	run := 0
	ss.mu.Lock()
	if ss.ended { // by the idle limit: what comes now would run unanswered
		ss.mu.Unlock()
		return halt{err: errEnded}
	}
	h.size, h.v, h.err = ss.runClient(&run)
	trial := ss.trial != nil
	ss.mu.Unlock()
	if err := ss.forward(run, trial); err != nil {
		h.err = err
	}
	return h
}

// runClient extends the run over the messages that pass. It stops at one that
// does not, or that is not whole: size is that message's, 0 if none is left.
// mu is held.
func (ss *session) runClient(run *int) (size int, v verdict, err error) {
	for {
		typ, size, ok, err := ss.cr.Header(*run)
		if err != nil || !ok {
			return 0, pass, err
		}
		b := ss.cr.Buffered()[*run:]
		if len(b) < size {
			return size, again, nil
		}
		if v := ss.clientMessage(typ, b[wire.HeaderSize:size]); v != pass {
			return size, v, nil
		}
		*run += size
	}
}

// oneClient handles the message at the buffer's front, which did not simply
// pass.
func (ss *session) oneClient(size int, v verdict) error {
	if v == again && size <= min(maxWhole, ss.srv.limits().MaxQuery) {
		return ss.cr.Hold(size, maxWhole)
	}
	for {
		typ := ss.cr.Buffered()[0]
		if v == again {
			held, err := ss.hold(typ, size)
			if err != nil {
				return err
			}
			ss.mu.Lock()
			if ss.ended { // as in passClient
				ss.mu.Unlock()
				return errEnded
			}
			v = ss.clientMessage(typ, ss.cr.Buffered()[wire.HeaderSize:held])
			ss.mu.Unlock()
		}
		switch v {
		case pass:
			return ss.stream(size)
		case drop:
			if typ == wire.Query || typ == wire.Parse || typ == wire.Bind {
				ss.cr.MarkSecret()
			}
			return ss.cr.Stream(io.Discard, size)
		case slow, again, opening, moving:
		}
		if typ == wire.Bind { // its names say where it belongs; the whole of it may be long
			nv, handled, err := ss.relocate(typ, ss.cr.Buffered()[wire.HeaderSize:min(size, bindHead)])
			if err != nil {
				return err
			}
			if handled {
				v = nv
				continue
			}
		}
		if err := ss.cr.Hold(size, ss.srv.limits().MaxQuery); err != nil {
			return err
		}
		var err error
		if v, err = ss.slow(typ, ss.cr.Buffered()[wire.HeaderSize:size]); err != nil {
			return err
		}
		if v == drop {
			ss.cr.Discard(size)
			return nil
		}
	}
}

// hold buffers as much of a message as clientMessage has to see.
func (ss *session) hold(typ byte, size int) (int, error) {
	need := size
	switch typ {
	case wire.Query, wire.Parse:
	case wire.Bind:
		need = min(size, bindHead)
	case wire.FunctionCall:
		need = min(size, wire.HeaderSize+4)
	case wire.CopyData:
		need = wire.HeaderSize
	}
	return need, ss.cr.Hold(need, ss.srv.limits().MaxQuery)
}

// stream passes a message on that is larger than what is buffered of it, maybe.
func (ss *session) stream(size int) error {
	ss.smu.Lock()
	defer ss.smu.Unlock()
	ss.mu.Lock()
	if b := ss.cr.Buffered(); len(b) >= size {
		ss.keepTrial(b[:size])
	} else {
		ss.spoilTrial()
	}
	ss.mu.Unlock()
	return ss.cr.Stream(ss.server(), size)
}

// forward writes the first n buffered bytes to the server. What may have to be
// written again is kept at that moment: the session may move until then.
func (ss *session) forward(n int, trial bool) error {
	if n == 0 {
		return nil
	}
	ss.smu.Lock()
	if trial {
		ss.mu.Lock()
		ss.keepTrial(ss.cr.Buffered()[:n])
		ss.mu.Unlock()
	}
	_, err := ss.server().Write(ss.cr.Buffered()[:n])
	ss.smu.Unlock()
	ss.cr.Discard(n)
	return err
}

// send queues what is owed for messages of the node's making and writes them.
func (ss *session) send(msgs []byte, entries ...owed) error {
	ss.smu.Lock()
	defer ss.smu.Unlock()
	ss.mu.Lock()
	ss.spoilTrial()
	for _, e := range entries {
		ss.queue.push(e)
	}
	ss.mu.Unlock()
	_, err := ss.server().Write(msgs)
	return err
}

// back moves the server's messages to the client.
func (ss *session) back() error {
	quick := ss.quickServer
	for {
		if err := ss.sr.Pump(quick); err != nil {
			if !errors.Is(err, wire.ErrParked) {
				ss.serverEnded()
				return err
			}
			if obeyed, failed := ss.obey(); obeyed && failed == nil {
				continue
			} else if obeyed {
				err = failed
			}
			return err
		}
		if err := ss.walkServer(); err != nil {
			return err
		}
	}
}

// quickServer passes on what is whole; false: something is left for walkServer.
func (ss *session) quickServer() bool {
	h := ss.passServer()
	if h.err == nil && h.size == 0 {
		return true
	}
	ss.serverHalt, ss.serverHalt.set = h, true
	return false
}

// walkServer handles what is buffered.
func (ss *session) walkServer() error {
	h := ss.serverHalt
	if ss.serverHalt = (halt{}); !h.set {
		h = ss.passServer()
	}
	for ; h.err == nil && h.size > 0; h = ss.passServer() {
		handle := func() error { return ss.partServer(h.size) }
		if h.v == moving {
			handle = ss.rerun
		}
		if err := handle(); err != nil {
			return err
		}
	}
	return h.err
}

// passServer passes on all messages up to one that is not whole. Bytes for the
// client stay in place as long as nothing between them changes; then they gather
// in out. It reads nothing, and whoever ends the session can end it: a call of
// the core by its context, a write by its deadline.
func (ss *session) passServer() (h halt) {
	ss.mu.Lock()
	for {
		if h.size, h.v, h.err = ss.runServer(); ss.ended {
			h.err = errEnded
		}
		switch {
		case h.err != nil:
			ss.mu.Unlock()
			return h
		case h.size == 0 || h.v == again: // what is ready goes out first
			run := ss.ahead
			ss.ahead = 0
			h.err = ss.emit(run)
			return h
		}
		ss.gather()
		switch h.v {
		case opening:
		case moving: // it may take long: what is ready goes out first
			ss.sr.Discard(h.size)
			h.err = ss.emit(0)
			return h
		default:
			ss.sr.Discard(h.size)
			continue
		}
		if h.err = ss.openRows(); h.err != nil {
			ss.mu.Unlock()
			return h
		}
	}
}

// runServer extends the run over the messages that pass. mu is held.
func (ss *session) runServer() (size int, v verdict, err error) {
	for {
		typ, size, ok, err := ss.sr.Header(ss.ahead)
		if err != nil || !ok {
			return 0, pass, err
		}
		b := ss.sr.Buffered()[ss.ahead:]
		if len(b) < size {
			return size, again, nil
		}
		if v := ss.serverMessage(typ, b[:size]); v != pass {
			return size, v, nil
		}
		ss.ahead += size
	}
}

// maxWhole is the size up to which the rest of a message is waited for, so that
// it goes out together with those behind it: streaming costs two small writes.
const maxWhole = wire.BufferSize / 4

// partServer handles a message at the buffer's front that is not whole: what
// nobody must see streams through, what must be seen is held, within bounds.
func (ss *session) partServer(size int) error {
	if size <= maxWhole {
		return ss.sr.Hold(size, maxWhole)
	}
	typ := ss.sr.Buffered()[0]
	ss.mu.Lock()
	limit := ss.holdLimit(typ)
	dropping := ss.dropping
	ss.mu.Unlock()
	if limit > 0 {
		return ss.sr.Hold(size, limit)
	}
	if dropping {
		return ss.sr.Stream(io.Discard, size)
	}
	ss.mu.Lock()
	ss.endTrial() // the client gets what would come again as another message
	ss.mu.Unlock()
	ss.cmu.Lock()
	defer ss.cmu.Unlock()
	return ss.sr.Stream(ss.client, size)
}

// holdLimit is the largest size up to which a message of the server's is held;
// 0 means that it streams. Only bulk data streams. mu is held.
func (ss *session) holdLimit(typ byte) int {
	switch typ {
	case wire.CopyData, wire.FunctionCallResponse:
		return 0
	case wire.DataRow:
		if ss.sealedRow() == nil && !ss.collecting() {
			return 0
		}
	case wire.RowDescription:
		return wire.MaxRowDescription
	}
	return ss.srv.limits().MaxQuery
}

// gather keeps the run for later and drops it from the buffer. Whatever is
// appended to out must stand behind the run, so it is gathered first. mu is
// held.
func (ss *session) gather() {
	if ss.ahead > 0 {
		ss.reserve(ss.ahead)
		ss.out = append(ss.out, ss.sr.Buffered()[:ss.ahead]...)
		ss.sr.Discard(ss.ahead)
		ss.ahead = 0
	}
}

// emit writes what is ready for the client: what was gathered, then the run.
// The client's lock is taken before mu is given up, so that nothing of the
// front's overtakes an answer that the queue no longer holds.
func (ss *session) emit(run int) error {
	ss.cmu.Lock()
	if ss.waiting {
		ss.cond.Broadcast()
	}
	fatal := ss.fatal
	if fatal == nil && ss.closing && ss.quiet() && ss.state == wire.Idle {
		fatal = errShutdown
	}
	ss.mu.Unlock()
	var err error
	switch b := ss.sr.Buffered()[:run]; {
	case len(ss.out) > 0:
		ss.reserve(len(b))
		ss.out = append(ss.out, b...)
		_, err = ss.client.Write(ss.out)
		ss.resetOut()
	case run > 0:
		_, err = ss.client.Write(b)
	}
	ss.cmu.Unlock()
	ss.sr.Discard(run)
	if err == nil && fatal != nil {
		return fatal
	}
	return err
}

// maxIdleOut is how large an output buffer an idle session may keep.
const maxIdleOut = 4 << 10

func (ss *session) resetOut() {
	if ss.outSecret {
		clear(ss.out)
		ss.outSecret = false
	}
	ss.out = ss.out[:0]
	if cap(ss.out) > maxIdleOut {
		ss.out = nil
	}
}

// local answers the client in the server's place, which owes nothing now.
func (ss *session) local(msg []byte) error {
	ss.cmu.Lock()
	defer ss.cmu.Unlock()
	_, err := ss.client.Write(msg)
	return err
}
