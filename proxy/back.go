// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"errors"
	"io"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// back moves the server's messages to the client.
func (ss *session) back() error {
	quick := ss.quickServer
	for {
		if err := ss.sr.Pump(quick); err != nil {
			if !errors.Is(err, wire.ErrParked) {
				return ss.serverEnded(err)
			}
			obeyed, failed := ss.obey()
			switch {
			case !obeyed:
				return err
			case failed != nil:
				return failed
			}
			// What the server has said meanwhile is buffered: nothing else would come.
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
			if h.v == drop { // seen, and not to be heard once more
				ss.gather()
				ss.sr.Discard(h.size)
			}
			ss.mu.Unlock()
			return h
		case h.size == 0 || h.v == again || ss.fatal != nil: // what is ready goes out first
			if h.err = ss.record(); h.err != nil {
				ss.mu.Unlock()
				return h
			}
			run := ss.ahead
			ss.ahead = 0
			h.err = ss.emit(run)
			return h
		}
		ss.gather()
		switch h.v {
		case opening:
		case noting:
			if h.err = ss.record(); h.err != nil {
				ss.mu.Unlock()
				return h
			}
			continue
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
		if len(ss.noted) > 0 && ss.mustNote(typ) {
			return size, noting, nil
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
	if e := ss.queue.front(); e != nil {
		e.begun = true
	}
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
	if fatal == nil && ss.drained() {
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
