// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// serverMessage looks at one whole message of the server's (header included),
// settles what was owed, and says whether the client gets it. What it gets
// instead is appended to out. mu is held.
func (ss *session) serverMessage(typ byte, msg []byte) verdict {
	body := msg[wire.HeaderSize:]
	if ss.trial != nil {
		if v, done := ss.tried(typ, msg); done {
			return v
		}
	}
	if v := ss.step(typ, body); v != again {
		return v
	}
	switch typ {
	case wire.DataRow:
		return ss.dataRow(body)
	case wire.ParseComplete, wire.BindComplete, wire.CloseComplete, wire.NoData:
		return ss.acknowledged(typ)
	case wire.ParameterDescription:
		return ss.parameterDescription(body)
	case wire.RowDescription:
		return ss.rowDescription(body)
	case wire.CommandComplete, wire.EmptyQueryResponse, wire.PortalSuspended:
		return ss.completed(typ, body)
	case wire.ErrorResponse:
		return ss.serverError(body)
	case wire.ReadyForQuery:
		return ss.ready(body)
	case wire.ParameterStatus:
		if isReport(body) {
			ss.report(body)
			return drop
		}
		ss.reported.note(body)
		ss.escapes = ss.escapes || !ss.stdStrings
		ss.inRole()
		return pass
	case wire.Notification:
		ss.notification(body)
		return pass
	case wire.CopyInResponse:
		return ss.copyIn()
	case wire.CopyOutResponse:
		ss.sealedText()
		return dropIf(ss.dropping)
	case wire.CopyData, wire.CopyDone, wire.FunctionCallResponse:
		return dropIf(ss.dropping)
	}
	return pass
}

// hidden reports whether the client is not to see the answer to e.
func (ss *session) hidden(e *owed) bool { return ss.dropping || e.task != nil && e.task.swallow }

// notification gives a session's own notification the process id by which the
// client knows itself: clients tell theirs from others' by it. At the primary the
// backend has another one.
func (ss *session) notification(body []byte) {
	if l := ss.server(); l.remote() && len(body) >= 4 && binary.BigEndian.Uint32(body) == l.pid {
		binary.BigEndian.PutUint32(body, ss.key.pid)
	}
}

// acknowledged settles ParseComplete, BindComplete, CloseComplete and NoData.
func (ss *session) acknowledged(typ byte) verdict {
	want := oweParse
	switch typ {
	case wire.BindComplete:
		want = oweBind
	case wire.CloseComplete:
		want = oweClose
	}
	e := ss.queue.front()
	if e == nil {
		return pass
	}
	if typ == wire.NoData {
		if e.kind != oweDescribe && e.kind != oweDescribePortal {
			return pass
		}
		ss.learn(e, shape{known: true})
	} else if e.kind != want {
		return pass
	}
	v := dropIf(ss.hidden(e))
	done := ss.queue.pop()
	switch done.kind {
	case oweParse:
		ss.parsedInTrial(&done)
		if done.named {
			ss.cleared = false
		} else {
			ss.stmtShape = shape{}
		}
		if done.prev != done.stmt {
			done.prev.zero()
		}
	case oweBind:
		ss.bound(&done)
	case oweClose:
		done.prev.zero()
		ss.unfinished = ss.unfinished && done.portal == nil
		if done.task != nil && done.task.last {
			done.task.pre.done = true
		}
	case oweDescribe, oweDescribePortal, oweExecute, oweSync, oweQuery, oweCall, oweCopy:
	}
	return v
}

// bound gives a new portal the shape of its statement, if that cannot change.
// What a name stands for can, without a word to the node (EXECUTE in a function
// may deallocate and prepare): a named statement's sealed columns are not those
// of its portals. They are described each, or ciphertext that stands in a column
// of text would be opened for somebody who may not read the secret.
func (ss *session) bound(e *owed) {
	var s shape
	switch {
	case !e.named:
		s = ss.stmtShape
	case e.stmt != nil && !e.stmt.utility && e.stmt.shape.plain():
		s = e.stmt.shape
	}
	if e.portal != nil {
		e.portal.shape = s
	} else {
		ss.portalShape, ss.unfinished = s, true
	}
}

// learn keeps what a Describe said, of nothing else than what it described.
func (ss *session) learn(e *owed, s shape) {
	switch {
	case e.kind == oweDescribePortal && e.portal != nil:
		e.portal.shape = s
		return
	case e.kind == oweDescribePortal && e.named: // a cursor of SQL's own
		return
	case e.kind == oweDescribePortal:
		ss.portalShape = s
		if e.stmt == nil || e.stmt.utility {
			return
		}
	case !e.named:
		ss.stmtShape = s
	}
	if e.stmt != nil {
		e.stmt.shape = s
	}
}

// completed settles the end of an Execute, or of one statement of a Query.
func (ss *session) completed(typ byte, body []byte) verdict {
	e := ss.queue.front()
	if e == nil {
		return pass
	}
	if typ == wire.CommandComplete {
		ss.tag(body)
		if string(body) == "PREPARE\x00" {
			ss.prepared(e.task)
		}
	}
	v := dropIf(ss.hidden(e))
	switch e.kind {
	case oweExecute:
		copied := e.copyIn
		if e.portal == nil {
			ss.unfinished = typ == wire.PortalSuspended
		}
		ss.queue.pop()
		if copied {
			ss.queue.eatCopy(0, false)
		}
	case oweQuery:
		ss.rows = shape{}
		if e.copyIn {
			e.copyIn = false
			ss.queue.eatCopy(1, false)
		}
		if t := e.task; t != nil && t.sent.Prefix > 0 && !t.joined && typ == wire.CommandComplete {
			t.joined = true
			v = drop
		}
	case oweParse, oweBind, oweDescribe, oweDescribePortal, oweClose, oweSync, oweCall, oweCopy:
	}
	return v
}

// tag looks for commands that change what names and OIDs stand for.
func (ss *session) tag(body []byte) {
	switch {
	case string(body) == "DISCARD ALL\x00":
		ss.discardSequences()
		ss.forgetAll()
	case string(body) == "DISCARD SEQUENCES\x00":
		ss.discardSequences()
	case string(body) == "DEALLOCATE ALL\x00":
		ss.forgetAll()
	case bytes.HasPrefix(body, []byte("DEALLOCATE")):
		ss.forgetShapes()
	case bytes.HasSuffix(body, []byte(" EXTENSION\x00")):
		ss.doubt()
	}
}

// copyIn notes that the server now takes copy data. A client that has been told
// of an error will send none, so the node ends the copy for it.
func (ss *session) copyIn() verdict {
	if e := ss.queue.front(); e != nil {
		e.copyIn = true
	}
	if !ss.dropping {
		return pass
	}
	ss.interject(wire.AppendMessage(nil, wire.CopyFail, []byte("an earlier statement failed\x00")))
	return drop
}

// interjectTimeout bounds how long the back waits for the front to return from
// a write whose answer it has seen already.
const interjectTimeout = 5 * time.Second

// interject writes a message of the back's own to the server, for the one answer
// that is owed. If the client's pipeline has gone on, something of it could slip
// in between: then the session ends, and its transaction with it. mu is held,
// and given up for as long as the front may need to finish a write.
func (ss *session) interject(msg []byte) {
	ss.mu.Unlock()
	locked := ss.smu.TryLock()
	for wait, begun := 10*time.Microsecond, time.Now(); !locked && time.Since(begun) < interjectTimeout; wait = min(2*wait, 10*time.Millisecond) {
		time.Sleep(wait) //nolint:forbidigo // not Lock: the front may be stuck in a write that only the back's reading frees
		locked = ss.smu.TryLock()
	}
	ss.mu.Lock()
	if locked {
		defer ss.smu.Unlock()
	}
	if !locked || ss.queue.len() != 1 {
		ss.fatal = errPipelined
		return
	}
	ss.server().Write(msg) //nolint:errcheck // a broken connection shows at the next read
}

// serverError settles an ErrorResponse. In the extended protocol the server
// skips to Sync, and what it skips is owed nothing.
func (ss *session) serverError(body []byte) verdict {
	hint := ss.standbyHint(body)
	if isFatal(body) {
		ss.serverGone = true
		return pass
	}
	e := ss.queue.front()
	if e == nil {
		return pass
	}
	t, kind, copied := e.task, e.kind, e.copyIn
	v := drop
	switch {
	case ss.dropping:
		ss.noteDenied(e, body)
	case t != nil && t.fail != nil:
		ss.gather()
		ss.out = t.fail.append(ss.out)
	case t != nil && t.poison:
		if t.pre != nil {
			t.pre.failed = true
		}
	default:
		ss.noteDenied(e, body)
		v = ss.editError(body, t, hint)
	}
	ss.rows = shape{}
	doubt := false
	if copied {
		e.copyIn = false
		doubt = ss.queue.eatCopy(1, true)
	}
	if kind.endsBatch() {
		return v
	}
	if ss.queue.skip(ss.undo) && doubt { // it may be skipped up to a Sync in front of the data, and all else run
		ss.fatal = errOutOfStep
	}
	return v
}

// isFatal reports whether an error ends the session. Its severity is not the first
// field; other fields hold what users have written.
func isFatal(body []byte) bool {
	return bytes.Contains(body, []byte("\x00VFATAL\x00")) || bytes.Contains(body, []byte("\x00VPANIC\x00"))
}

// editError corrects positions that refer to an edited text, and tells writers
// on a standby where the primary is.
func (ss *session) editError(body []byte, t *task, hint string) verdict {
	edits := t != nil && (t.plan != nil || t.pre != nil)
	if !edits && hint == "" {
		return pass
	}
	fields := parseFields(body)
	for i := range fields {
		if fields[i].Code == 'P' && edits {
			fields[i].Text = t.position(fields[i].Text)
		}
	}
	// Of a text that the client has not sent no position is told.
	fields = slices.DeleteFunc(fields, func(f wire.Field) bool { return f.Code == 'P' && f.Text == "" })
	if hint != "" && !slices.ContainsFunc(fields, func(f wire.Field) bool { return f.Code == 'H' }) {
		fields = append(fields, wire.Field{Code: 'H', Text: hint})
	}
	ss.gather()
	ss.out = wire.AppendFields(ss.out, wire.ErrorResponse, fields...)
	return drop
}

// ready settles ReadyForQuery: its state is the real one of the connection.
func (ss *session) ready(body []byte) verdict {
	if len(body) != 1 {
		return pass
	}
	e := ss.queue.front()
	if e == nil || !e.kind.endsBatch() {
		ss.state = body[0]
		return pass
	}
	done := ss.queue.pop()
	if done.task != nil && done.task.pre != nil && done.kind == oweSync {
		ss.state, ss.rows, done.task.pre.done = body[0], shape{}, true
		return drop
	}
	if ss.dropping && body[0] == wire.InBlock {
		return ss.poisonBlock()
	}
	if ss.state != wire.Idle && !ss.reading && ss.away() { // what was in the block nobody has looked at
		ss.restless()
	}
	ss.state, ss.dropping, ss.rows = body[0], false, shape{}
	if ss.state == wire.Idle {
		ss.sealed, ss.unfinished = ss.sealed[:0], false
		if ss.queue.len() == 0 {
			clear(ss.portals)
		}
	}
	ss.destroyed(&done)
	if done.task != nil && done.task.swallow && done.kind == oweSync {
		return drop
	}
	if ss.queue.len() == 0 && !ss.working {
		ss.settled++
	}
	return pass
}

// destroyed erases the values of the unnamed statement that a Query has destroyed.
func (ss *session) destroyed(query *owed) {
	if query.kind == oweQuery && query.prev != ss.unnamedStmt {
		query.prev.zero()
	}
}

// poisonBlock makes the server's transaction fail after an opening failed in
// it: the client, who has had the error, gets the ReadyForQuery of the failed
// block. The answer is owed before the front can go on, which waits for it.
func (ss *session) poisonBlock() verdict {
	ss.queue.push(owed{kind: oweQuery, task: &task{swallow: true, poison: true}})
	ss.interject(ss.poisonQuery())
	return drop
}

var errPipelined = fatalError(stateSystem, "a secret could not be opened, and the pipeline had gone on",
	"The transaction was rolled back. Wait for the answer of statements that read secrets.")

// position maps a position in the text that was sent to one in the client's;
// empty: it lies in what the node added.
func (t *task) position(p string) string {
	if t.plan == nil {
		return ""
	}
	n, err := strconv.Atoi(p)
	if err != nil {
		return ""
	}
	if n = t.plan.MapPosition(t.sql, n, t.sent); n <= 0 {
		return ""
	}
	return strconv.Itoa(n)
}
