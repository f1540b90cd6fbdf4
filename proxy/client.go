// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"encoding/binary"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// bindHead is how much of a long Bind is held to see its two names.
const bindHead = 8 << 10

// clientMessage looks at one message of the client's and notes what it is owed.
// It sees the whole body, of Bind, FunctionCall and CopyData at least the
// beginning. mu is held; nothing here may block or allocate for a message that
// the vault does not concern.
func (ss *session) clientMessage(typ byte, body []byte) verdict {
	switch typ {
	case wire.CopyData, wire.CopyDone, wire.CopyFail:
		return ss.noteCopy(typ)
	case wire.Terminate:
		ss.leaving = true
		return pass
	case wire.Flush:
		return ss.noteFlush()
	}
	if (ss.skip || ss.queue.skipping) && typ != wire.Sync {
		ss.loseText(typ, body)
		return drop
	}
	if ss.replication {
		return ss.walsenderMessage(typ, body)
	}
	if ss.gate == gateReady && ss.queue.ends == 0 && !ss.batch.failed {
		ss.gate = gateNone // answered while nobody waited
	}
	if ss.queue.len() >= maxOwed || ss.mustWait(typ) || ss.doubtful && (typ == wire.Query || typ == wire.Parse) && ss.canAsk() {
		return waiting // nothing of it is noted, also if it has not to wait any more by then
	}
	ss.beginTrial(typ)
	return ss.note(typ, body)
}

// note looks at a message that the server is about to answer. mu is held.
func (ss *session) note(typ byte, body []byte) verdict {
	switch typ {
	case wire.Query:
		return ss.noteQuery(body)
	case wire.Parse:
		return ss.noteParse(body)
	case wire.Bind:
		return ss.noteBind(body)
	case wire.Describe:
		return ss.noteDescribe(body)
	case wire.Execute:
		return ss.noteExecute(body)
	case wire.Close:
		return ss.noteClose(body)
	case wire.Sync:
		return ss.noteSync()
	case wire.FunctionCall:
		return ss.noteCall(body)
	}
	return pass // the server knows what to say of anything else
}

// noteCopy marks where copy data stood, once for a run of it: it is owed nothing.
func (ss *session) noteCopy(typ byte) verdict {
	if !ss.skip && (ss.queue.n == 0 || ss.queue.at(ss.queue.n-1).kind != oweCopy) {
		ss.queue.push(owed{kind: oweCopy})
	}
	if typ != wire.CopyData && ss.queue.n > 0 {
		if e := ss.queue.at(ss.queue.n - 1); e.kind == oweCopy {
			e.ends++
			ss.queue.copied++
		}
	}
	return dropIf(ss.skip)
}

// maxOwed bounds the answers that a client may leave unread. It is far above
// what fits into the sockets' buffers, where PostgreSQL itself would stop.
const maxOwed = 1 << 18

func dropIf(b bool) verdict {
	if b {
		return drop
	}
	return pass
}

// concerns reports whether a text has to be analysed.
func (ss *session) concerns(text []byte) bool {
	return rewrite.Mentions(text) || ss.hasPuts && rewrite.MentionsPrepared(text)
}

func (ss *session) noteQuery(body []byte) verdict {
	if ss.gate != gateNone || ss.batch.failed || ss.concerns(body) || ss.mayMove(body) || ss.homing(body) {
		return slow
	}
	ss.pushQuery(body)
	return pass
}

// pushQuery notes a Query that passes.
func (ss *session) pushQuery(body []byte) {
	e := owed{kind: oweQuery, prev: ss.unnamedStmt}
	if ss.namesDirect(body) {
		e.task = &task{direct: true}
	}
	ss.queue.push(e)
	ss.dropUnnamed()
}

func (ss *session) noteParse(body []byte) verdict {
	end := bytes.IndexByte(body, 0)
	if end < 0 {
		return ss.noteMalformed(oweParse)
	}
	text := body[end+1:]
	if ss.concerns(text) || ss.holds(wire.Parse, end > 0) || ss.parseMoves(text, end > 0) {
		return slow
	}
	ss.batch.open = true
	name := cutName(body[:end])
	if end == 0 {
		ss.keepUnnamed(body)
	}
	if ss.namesDirect(text) {
		ss.pushParse(&statement{name: string(name), utility: true, direct: true})
		return pass
	}
	ss.pushPlain(name, text)
	return pass
}

// pushPlain notes the Parse of a text that the vault does not concern. The
// unnamed statement gets no object.
func (ss *session) pushPlain(name, text []byte) {
	ss.used = true
	if len(name) == 0 {
		ss.runs++ // see parsed
		ss.queue.push(owed{kind: oweParse, prev: ss.unnamedStmt})
		ss.unnamedStmt, ss.unnamedDescribed, ss.unnamedUtility = nil, false, isUtility(text)
		return
	}
	ss.pushParse(&statement{name: string(name), utility: isUtility(text)})
}

// pushParse notes the Parse of a statement that has an object of its own.
func (ss *session) pushParse(st *statement) {
	ss.queue.push(ss.parsed(st))
}

func (ss *session) noteBind(body []byte) verdict {
	pname, sname, _, ok := bindNames(body)
	if !ok && len(body) < bindHead-wire.HeaderSize {
		return ss.noteMalformed(oweBind)
	}
	st, sealed := ss.bindTarget(sname)
	if !ok || sealed || ss.elsewhereBound(st) || ss.unready(st) {
		return slow
	}
	ss.pushBind(pname, sname, st)
	return pass
}

// keepPortal makes p what its name stands for, and returns what it stood for
// before. mu is held.
func (ss *session) keepPortal(p *portal) (before *portal) {
	if ss.portals == nil || len(ss.portals) >= maxPortals {
		ss.portals = map[string]*portal{}
	}
	before = ss.portals[p.name]
	ss.portals[p.name] = p
	return before
}

// pushBind notes a Bind of st, which is nil for a plain unnamed statement and
// for a name that only the server knows.
func (ss *session) pushBind(pname, sname []byte, st *statement) {
	ss.batch.open, ss.used = true, true
	ss.runs++ // planning may evaluate functions, also some that change settings
	ss.batch.executed = true
	var p *portal
	var prev *portal
	if len(pname) > 0 {
		p = &portal{name: string(pname)}
		prev = ss.keepPortal(p)
	} else {
		ss.unnamedPortal = portal{}
	}
	target := p
	if target == nil {
		target = &ss.unnamedPortal
	}
	if st == nil && len(sname) > 0 {
		st = ss.directName(sname)
	}
	target.stmt = st
	if len(sname) == 0 {
		ss.usesUnnamed()
	}
	parsed := ss.trial == nil || ss.trial.unnamed // else it may be parsed anew before this runs
	switch {
	case st != nil:
		target.described = st.described && !st.utility && (len(sname) == 0 && parsed || st.shape.plain())
		target.reads = st.reads() || st.shape.known && len(st.shape.cols) > 0
		target.readOnly = st.plan != nil && st.plan.ReadOnly
	case len(sname) == 0:
		target.described = ss.unnamedDescribed && !ss.unnamedUtility && parsed
	}
	ss.queue.push(owed{kind: oweBind, named: len(sname) > 0, stmt: st, portal: p, prevP: prev})
}

// noteMalformed notes a message that the server will refuse.
func (ss *session) noteMalformed(kind owedKind) verdict {
	ss.batch.open = true
	ss.queue.push(owed{kind: kind, named: true})
	return pass
}

func (ss *session) noteDescribe(body []byte) verdict {
	if len(body) < 2 {
		return ss.noteMalformed(oweDescribe)
	}
	ss.batch.open = true
	name := cutName(bytes.TrimSuffix(body[1:], []byte{0}))
	if body[0] == 'P' {
		p := &ss.unnamedPortal
		if len(name) > 0 {
			p = ss.portals[string(name)]
		}
		e := owed{kind: oweDescribePortal, named: len(name) > 0}
		if p != nil {
			p.described, p.seen = true, ss.runs
			if len(name) > 0 {
				e.portal = p
			}
			e.stmt = p.stmt
		} else {
			e.stmt = ss.directName(name)
		}
		ss.queue.push(e)
		return pass
	}
	ss.runs++ // one that is no longer valid is read anew
	if len(name) == 0 {
		ss.usesUnnamed()
	}
	st := ss.unnamedStmt
	if len(name) > 0 {
		if st = ss.stmts[string(name)]; st == nil {
			st = ss.directName(name)
		}
	} else if st == nil {
		ss.unnamedDescribed = true
	}
	if st != nil {
		st.described = true
	}
	ss.queue.push(owed{kind: oweDescribe, named: len(name) > 0, stmt: st})
	return pass
}

func (ss *session) noteExecute(body []byte) verdict {
	name, rows, ok := bytes.Cut(body, []byte{0})
	if !ok || len(rows) != 4 {
		return ss.noteMalformed(oweExecute)
	}
	name = cutName(name)
	p := ss.portalOf(name)
	if ss.gate == gateRows && !p.readOnly || ss.batch.failed {
		return slow
	}
	// A named portal may have become another one in whatever ran since: SQL and
	// functions close and open portals by name too.
	if p.name != "" && p.seen != ss.runs && !p.shape.plain() {
		p.described = false
	}
	if ss.catalog.has() && !p.described {
		return slow
	}
	ss.pushExecute(p)
	return pass
}

// portalOf is the portal of a name. One that is not known is a cursor of SQL's
// own, or does not exist; answers forget portals while the front has no lock. mu
// is held.
func (ss *session) portalOf(name []byte) *portal {
	if len(name) == 0 {
		return &ss.unnamedPortal
	}
	p := ss.portals[string(name)]
	if p == nil {
		p = &portal{name: string(name), stmt: ss.directName(name)}
		ss.keepPortal(p)
	}
	return p
}

// maxPortals bounds the names of portals that a session is known to have.
const maxPortals = 10000

func (ss *session) pushExecute(p *portal) {
	e := owed{kind: oweExecute, named: p.name != "", stmt: p.stmt}
	fresh := p.seen == ss.runs
	if ss.runs++; fresh { // a portal cannot close itself while it runs
		p.seen = ss.runs
	}
	if e.named {
		e.portal = p
	}
	names := p.stmt.prepares()
	if p.reads {
		ss.gate = gateRows
	}
	if p.reads || names != nil {
		e.task = &task{reads: p.stmt.reads(), prepares: names, run: ss.runs}
	}
	ss.batch.open, ss.batch.executed = true, true
	ss.batch.dirty = ss.batch.dirty || !p.readOnly
	ss.queue.push(e)
}

func (ss *session) noteClose(body []byte) verdict {
	if len(body) < 2 {
		return ss.noteMalformed(oweClose)
	}
	if ss.holds(wire.Close, body[0] == 'S') {
		return slow
	}
	ss.batch.open = true
	name := cutName(bytes.TrimSuffix(body[1:], []byte{0}))
	e := owed{kind: oweClose}
	switch {
	case body[0] == 'P' && len(name) > 0:
		delete(ss.portals, string(name))
	case body[0] == 'P':
		e.portal = &ss.unnamedPortal
	case body[0] == 'S' && len(name) > 0:
		if st := ss.stmts[string(name)]; st != nil {
			e.named, e.prev = true, st
			delete(ss.stmts, st.name)
		}
	}
	ss.queue.push(e)
	return pass
}

func (ss *session) noteSync() verdict {
	if ss.gate == gateRows && ss.batch.dirty || ss.batch.failed {
		return slow
	}
	if ss.gate == gateRows {
		ss.gate = gateReady
	}
	ss.pushSync()
	return pass
}

func (ss *session) pushSync() {
	ss.runs++ // a commit runs deferred triggers
	ss.skip, ss.batch = false, batch{}
	ss.queue.push(owed{kind: oweSync})
}

func (ss *session) noteCall(body []byte) verdict {
	if ss.gate != gateNone || ss.batch.failed {
		return slow
	}
	if len(body) >= 4 {
		oid := binary.BigEndian.Uint32(body)
		if ss.catalog.hasFunction(oid) {
			return slow
		}
		if ss.see(oid); ss.doubtful && ss.canAsk() {
			return waiting
		}
	}
	ss.runs++
	ss.used = true
	ss.queue.push(owed{kind: oweCall})
	ss.batch = batch{}
	return pass
}

// walsenderMessage passes replication commands to the local server unparsed. A
// text that could carry a value ends the session: nothing can be sealed here.
func (ss *session) walsenderMessage(typ byte, body []byte) verdict {
	if (typ == wire.Query || typ == wire.Parse) && ss.concerns(body) {
		return slow
	}
	return pass
}
