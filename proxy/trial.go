// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"sync"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// A trial is a lone statement that a standby is asked to run, kept so that the
// primary can run it if it turns out to write: a Query, a function call, or a
// batch up to its first Execute. A standby refuses a write before it has any
// effect, so nothing is run twice.
//
// The client may have had a part of the answer by then (ParseComplete,
// RowDescription). The primary gives the same once more, and that is dropped.
type trial struct {
	open    bool     // the client has had nothing but what would come again
	waited  bool     // it asked for the answer of an Execute by Flush
	fresh   bool     // the session had run nothing before
	long    bool     // more was sent than is kept
	unnamed bool     // it parses the unnamed statement
	before  bool     // it is about the one that was there before
	sent    []byte   // what the server got
	given   []byte   // what the client got
	parsed  []string // the named statements that it has parsed, which the primary does not have yet
	refused []byte   // the body of the server's error, which the client has not got
	echo    []byte   // what is left of given, while the primary answers
}

// maxTrial bounds the parts of a statement that are kept.
const maxTrial = 64 << 10

var trials = sync.Pool{New: func() any { return new(trial) }}

// beginTrial begins one with the message that comes now, if it can be run again
// elsewhere. mu is held.
func (ss *session) beginTrial(typ byte) {
	if typ == wire.Sync || ss.batch.open || ss.state != wire.Idle || ss.srv.cfg.Routing != RouteAll || !ss.roams() {
		return
	}
	ss.endTrial()
	ss.trial = trials.Get().(*trial) //nolint:errcheck,forcetypeassert // the pool's New makes nothing else
	ss.trial.open, ss.trial.fresh = true, !ss.used
}

// endTrial forgets it. mu is held.
func (ss *session) endTrial() {
	t := ss.trial
	if t == nil {
		return
	}
	ss.trial = nil
	clear(t.sent)
	clear(t.given)
	*t = trial{sent: t.sent[:0], given: t.given[:0], parsed: t.parsed[:0]}
	trials.Put(t)
}

// keep notes what goes to the server. mu is held.
func (ss *session) keepTrial(msgs []byte) {
	t := ss.trial
	switch {
	case t == nil || !t.open:
	case len(t.sent)+len(msgs) <= maxTrial:
		t.sent = append(t.sent, msgs...)
	default:
		ss.spoilTrial()
	}
}

// spoilTrial notes that the statement cannot be run again: it is too long, or the
// node has a part in it. One that the primary runs already is needed to its end. mu is
// held.
func (ss *session) spoilTrial() {
	switch t := ss.trial; {
	case t == nil || !t.open:
	case t.refused != nil:
		t.long = true
	default:
		ss.endTrial()
	}
}

// parsedInTrial notes that the server has a statement which the primary will get
// once more. mu is held.
func (ss *session) parsedInTrial(e *owed) {
	if t := ss.trial; t != nil && t.open && e.named && e.stmt != nil {
		t.parsed = append(t.parsed, e.stmt.name)
	}
}

// noteFlush notes a Flush of the client's, which wants to see what there is. mu is
// held.
func (ss *session) noteFlush() verdict {
	t := ss.trial
	switch {
	case ss.skip:
		return drop
	case t == nil:
	case t.refused != nil:
		return slow
	case ss.batch.executed:
		t.waited = true
	}
	return pass
}

// giveRefusal gives the client the standby's error after all, if there is one:
// it may send no Sync before it has seen it, and whoever waits for an answer before
// that would wait for ever.
func (ss *session) giveRefusal() (given bool, err error) {
	ss.mu.Lock()
	if ss.trial == nil || ss.trial.refused == nil || ss.queue.ends > 0 {
		ss.mu.Unlock()
		return false, nil
	}
	msg := ss.refusal(nil)
	ss.queue.skip(ss.undo)
	ss.mu.Unlock()
	return true, ss.local(msg)
}

// refusal ends the trial with the standby's own error, and why the session stays.
// mu is held.
func (ss *session) refusal(why *sqlError) []byte {
	fields := parseFields(ss.trial.refused)
	ss.endTrial()
	if why == nil {
		why = &sqlError{hint: "Send it as a batch of its own, ended by Sync, so that the session can go to the primary."}
	}
	for _, f := range []wire.Field{{Code: 'D', Text: why.detail}, {Code: 'H', Text: why.hint}} {
		if f.Text != "" && !slices.ContainsFunc(fields, func(g wire.Field) bool { return g.Code == f.Code }) {
			fields = append(fields, f)
		}
	}
	return wire.AppendFields(nil, wire.ErrorResponse, fields...)
}

// tried looks at a message of the server's while there is a trial. done: it
// needs no other look. mu is held.
func (ss *session) tried(typ byte, msg []byte) (v verdict, done bool) {
	t := ss.trial
	switch typ {
	case wire.ParseComplete, wire.BindComplete, wire.CloseComplete, wire.ParameterDescription, wire.RowDescription, wire.NoData,
		wire.CopyOutResponse, wire.NoticeResponse:
		return ss.comesAgain(t, typ, msg)
	case wire.ErrorResponse:
		if ss.holdsBack(t, msg) {
			t.refused = bytes.Clone(msg[wire.HeaderSize:])
			return drop, true
		}
		ss.endTrial()
	case wire.ReadyForQuery:
		if t.refused != nil {
			return moving, true
		}
		ss.endTrial()
	case wire.ParameterStatus, wire.Notification:
	default:
		ss.endTrial()
	}
	return pass, false
}

// comesAgain notes what the primary would say once more, or drops what it does.
func (ss *session) comesAgain(t *trial, typ byte, msg []byte) (v verdict, done bool) {
	if typ != wire.NoticeResponse {
		t.skipNotices()
	}
	switch {
	case len(t.echo) > 0 && bytes.HasPrefix(t.echo, msg):
		t.echo = t.echo[len(msg):]
		return drop, true
	case typ == wire.NoticeResponse && (len(t.echo) > 0 || len(t.given)+len(msg) > maxTrial): // it may come twice
	case len(t.echo) > 0:
		t.echo = nil
		ss.fail(errOtherForm)
		return drop, true
	case t.open && len(t.given)+len(msg) > maxTrial:
		ss.endTrial()
	case t.open:
		t.given = append(t.given, msg...)
	}
	return pass, false
}

// holdsBack reports whether an error is that of a statement which the primary
// shall run. Of a client that writes no more the server has been told so.
func (ss *session) holdsBack(t *trial, msg []byte) bool {
	return t.open && !t.waited && !ss.halfClosed && !ss.leaving && !ss.dropping && ss.queue.front() != nil && refusedByStandby(msg)
}

// skipNotices drops notices from what is to come again: the primary has not given
// the same.
func (t *trial) skipNotices() {
	for len(t.echo) > wire.HeaderSize && t.echo[0] == wire.NoticeResponse {
		t.echo = t.echo[1+binary.BigEndian.Uint32(t.echo[1:]):]
	}
}

// refusedByStandby reports whether an error is that of a write on a standby, or of
// anything in a session whose transactions are serializable (0A000 may be many
// things, so that it is known by who raises it).
func refusedByStandby(msg []byte) bool {
	has := func(field string) bool { return bytes.Contains(msg, []byte("\x00"+field+"\x00")) }
	return (has("C"+stateReadOnly) || has("RGetSerializableTransactionSnapshot")) && !isFatal(msg)
}

var errOtherForm = &sqlError{
	code: stateFeature, message: "the statement's result has another form at the primary than at the standby",
	hint: "Look whether it was done before you send it again.",
}

// rerun has the primary run what the standby refused. The server's ReadyForQuery
// was the last of its messages, and the front waits for it.
func (ss *session) rerun() error {
	ss.smu.Lock()
	defer ss.smu.Unlock()
	ss.mu.Lock()
	t := ss.trial
	long, fresh := t.long, t.fresh
	kept, lost := ss.unnamedKept, ss.unnamedLost
	if t.unnamed { // what it was before does not matter, and what it is will be parsed again
		ss.unnamedKept, ss.unnamedLost = false, false
	}
	ss.mu.Unlock()
	failed := stays("the statement is longer than the node keeps", "Run it in a block, or connect to the node beside the primary.")
	var err error
	if !long {
		failed, err = ss.move(false, fresh, t.parsed)
	}
	ss.mu.Lock()
	ss.unnamedKept, ss.unnamedLost = kept, lost
	ss.mu.Unlock()
	switch {
	case err != nil:
		return err
	case failed != nil:
		return ss.refuseRerun(failed)
	}
	ss.mu.Lock()
	t.open, t.refused, t.echo = false, nil, t.given
	half := ss.halfClosed
	ss.mu.Unlock()
	if _, err := ss.server().Write(t.sent); err != nil || !half {
		return err
	}
	return closeWrite(ss.server())
}

// refuseRerun gives the client the standby's error, or that of the cancelled move.
func (ss *session) refuseRerun(why *sqlError) error {
	ss.mu.Lock()
	msg := ss.refusal(why)
	if why.code == stateCanceled {
		msg = why.append(nil)
	}
	if e := ss.queue.front(); e != nil && !e.kind.endsBatch() {
		ss.queue.skip(ss.undo)
	}
	ss.reserve(len(msg) + wire.HeaderSize + 1)
	ss.out = append(ss.out, msg...)
	if ss.ready([]byte{wire.Idle}) == pass {
		ss.out = wire.AppendReady(ss.out, wire.Idle)
	}
	half := ss.halfClosed
	if err := ss.emit(0); err != nil || !half {
		return err
	}
	return closeWrite(ss.server())
}

// closeWrite tells a server that nothing more comes.
func closeWrite(l *leg) error {
	cw, ok := l.Net().(interface{ CloseWrite() error })
	if !ok {
		return io.ErrClosedPipe
	}
	return cw.CloseWrite()
}
