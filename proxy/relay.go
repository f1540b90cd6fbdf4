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
	again                  // look at it once more
	waiting                // front: it was not looked at, for it has to wait
	opening                // back: a row with sealed columns
	noting                 // back: before it something is to be recorded
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
		if ss.worked() {
			return errShutdown
		}
	}
	return h.err
}

// worked notes that the front is done with a message, and reports whether the
// session ends here: the back may have had nothing to answer.
func (ss *session) worked() (over bool) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.working = false
	return ss.drained()
}

// passClient forwards the run of messages at the buffer's front that pass.
func (ss *session) passClient() (h halt) {
	ss.touch()
	run := 0
	ss.mu.Lock()
	if ss.ended { // by the idle limit, or drained: what comes now would run unanswered
		ss.mu.Unlock()
		return halt{err: errEnded}
	}
	h.size, h.v, h.err = ss.runClient(&run)
	ss.working = h.v == slow || h.v == waiting
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
			var err error
			if v, err = ss.look(typ, size); err != nil {
				return err
			}
		}
		switch v {
		case pass:
			return ss.stream(size)
		case drop:
			if typ == wire.Query || typ == wire.Parse || typ == wire.Bind {
				ss.cr.MarkSecret()
			}
			return ss.cr.Stream(io.Discard, size)
		case waiting:
			if _, err := ss.await(typ); err != nil {
				return err
			}
			v = again
			continue
		case slow, again, opening, noting, moving:
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

// look looks at the message at the buffer's front once more.
func (ss *session) look(typ byte, size int) (v verdict, err error) {
	held, err := ss.hold(typ, size)
	if err != nil {
		return v, err
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.ended { // as in passClient
		return v, errEnded
	}
	v = ss.clientMessage(typ, ss.cr.Buffered()[wire.HeaderSize:held])
	ss.working = v == slow || v == waiting
	return v, nil
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
	return ss.sendAs(false, msgs, entries...)
}

// sendAs is send; again: what is sent can be run once more elsewhere.
func (ss *session) sendAs(again bool, msgs []byte, entries ...owed) error {
	ss.smu.Lock()
	defer ss.smu.Unlock()
	ss.mu.Lock()
	if again {
		ss.keepTrial(msgs)
	} else {
		ss.spoilTrial()
	}
	for _, e := range entries {
		ss.queue.push(e)
	}
	ss.mu.Unlock()
	_, err := ss.server().Write(msgs)
	return err
}

// local answers the client in the server's place, which owes nothing now.
func (ss *session) local(msg []byte) error {
	ss.cmu.Lock()
	defer ss.cmu.Unlock()
	_, err := ss.client.Write(msg)
	return err
}
