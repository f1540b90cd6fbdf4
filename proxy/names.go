// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// Bounds on what a session is remembered to have prepared: the server forgets
// names without a word to the node (DEALLOCATE in a function), so a client could
// make it remember ever more.
const (
	// maxStatements bounds the named statements. Plain ones beyond it are
	// forgotten, which only means that each execution is described.
	maxStatements = 10000
	// searchEvery is for how many names that find no room, or are given it, all are looked
	// through once.
	searchEvery = 1024
	// maxKeptValues bounds the literal values that are kept to be sealed anew.
	maxKeptValues = 16 << 20
)

// parsed gives a statement's name its new meaning and returns what is owed for
// the Parse.
func (ss *session) parsed(st *statement) owed {
	ss.batch.open, ss.used = true, true
	ss.runs++ // constants are read by domains' checks
	e := owed{kind: oweParse, named: st.name != "", stmt: st}
	switch {
	case !e.named:
		e.prev, ss.unnamedStmt = ss.unnamedStmt, st
	case ss.room(st.name):
		e.prev = ss.stmts[st.name]
		ss.keep(st)
		ss.hasPuts = ss.hasPuts || st.puts()
	default: // a plain one, see keepable
		e.stmt = nil
	}
	return e
}

// keep makes st what its name stands for.
func (ss *session) keep(st *statement) {
	ss.cleared = false
	if ss.stmts == nil {
		ss.stmts = map[string]*statement{}
	}
	ss.stmts[st.name] = st
}

// room reports whether name can be remembered.
func (ss *session) room(name string) bool {
	if _, known := ss.stmts[name]; known || len(ss.stmts) < maxStatements {
		return true
	}
	// Looking through them all is too much work for each name.
	if ss.crowded++; ss.crowded%searchEvery == 1 && ss.queue.len() < maxStatements {
		ss.forgetPlain()
		if maxStatements-len(ss.stmts) >= searchEvery { // else each name that comes would have them looked through
			ss.crowded = 0
		}
	}
	return len(ss.stmts) < maxStatements
}

// pending are the statements that answers still owed refer to.
func (ss *session) pending() map[*statement]bool {
	in := map[*statement]bool{}
	for i := range ss.queue.len() {
		e := ss.queue.at(i)
		in[e.stmt], in[e.prev] = true, true
	}
	return in
}

func (ss *session) forgetPlain() {
	in := ss.pending()
	for name, st := range ss.stmts {
		if !st.puts() && !in[st] {
			delete(ss.stmts, name)
		}
	}
}

// maxLost bounds of how many statements that took values and are no more the names are
// remembered.
const maxLost = 1000

// forgetAll is called when the server says that it has just dropped all named
// statements. Those of Parses that it has not answered yet stay. A client may not know,
// or the server not have done it: what is bound to one that takes values does not go there
// in clear.
func (ss *session) forgetAll() {
	if ss.cleared { // a client may say so for each of a long pipeline
		return
	}
	ss.cleared = true
	later := map[*statement]bool{}
	for i := range ss.queue.len() {
		if e := ss.queue.at(i); e.kind == oweParse && e.named {
			later[e.stmt] = true
		}
	}
	for i := range ss.queue.len() {
		if e := ss.queue.at(i); e.prev != nil && e.prev.name != "" && !later[e.prev] {
			e.prev = e.prev.gone()
		}
	}
	lost := 0
	for name, st := range ss.stmts {
		switch {
		case later[st]:
		case st.puts() && lost < maxLost:
			lost++
			ss.stmts[name] = st.gone()
		default:
			ss.lostMany = ss.lostMany || st.puts()
			st.zero()
			delete(ss.stmts, name)
		}
	}
}

// gone is what is left of a statement that the server has dropped.
func (st *statement) gone() *statement {
	st.zero()
	if !st.puts() {
		return nil
	}
	return &statement{name: st.name, lost: true, lostAt: st.lostAt}
}

// keepable refuses a statement whose name or values cannot be remembered. mu is
// held.
func (ss *session) keepable(st *statement) *sqlError {
	for i := range len(st.name) {
		if st.name[i] >= 0x80 { // another client_encoding would spell it otherwise
			return &sqlError{code: stateFeature, message: "the name of a prepared statement that carries a secret must be ASCII"}
		}
	}
	if st.name != "" && !ss.room(st.name) {
		return &sqlError{code: stateLimit, message: "too many prepared statements", hint: "Close some, or DEALLOCATE ALL."}
	}
	kept := 0
	for _, other := range ss.stmts {
		kept += other.size()
	}
	if n := st.size(); n > 0 && kept+n > maxKeptValues {
		return &sqlError{
			code: stateLimit, message: "too many literal values in prepared statements",
			hint: "Pass the values as parameters, or Close statements, or DEALLOCATE ALL.",
		}
	}
	return nil
}

// size is how many bytes of literal values a statement holds.
func (st *statement) size() (n int) {
	for _, v := range st.values {
		n += cap(v)
	}
	return n
}

// lose notes that the client may believe in a statement that takes values while
// the server knows no such one: what is bound to the name, or executed by it, does
// not go there in clear. mu is held.
func (ss *session) lose(name []byte) {
	if len(name) == 0 {
		ss.unnamedStmt.zero()
		ss.unnamedStmt = &statement{lost: true}
		return
	}
	ss.hasPuts = true
	if !ss.room(string(name)) {
		ss.lostMany = true
		return
	}
	ss.stmts[string(name)].zero() // also if it takes values itself: of others, or of another secret
	ss.keep(&statement{name: string(name), lost: true, lostAt: ss.runs})
}

// losePrepared does so for names that SQL would have prepared. mu is held.
func (ss *session) losePrepared(names []string) {
	for _, n := range names {
		if n == rewrite.AnyName {
			ss.hasPuts, ss.lostMany = true, true
			continue
		}
		ss.lose(cutName([]byte(n)))
	}
}

// loseText notes a Query or Parse that the server does not get, or skips. mu is held.
func (ss *session) loseText(typ byte, body []byte) {
	text := body
	switch typ {
	case wire.Query:
	case wire.Parse:
		name, rest, ok := bytes.Cut(body, []byte{0})
		if text = rest; ok && ss.concerns(text) {
			ss.lose(cutName(name))
		}
	default:
		return
	}
	if rewrite.Mentions(text) {
		ss.losePrepared(rewrite.Prepares(text))
	}
}

// prepared notes that the server has done a PREPARE of SQL's own: the name stands for
// that, unless the client has lost it, or parses something by it, behind that. mu is
// held.
func (ss *session) prepared(t *task) {
	if t == nil || len(t.prepares) == 0 {
		return
	}
	name := cutName([]byte(t.prepares[0]))
	t.prepares = t.prepares[1:]
	old, sealed := ss.bindTarget(name)
	if !sealed || old != nil && old.lostAt >= t.run || !ss.room(string(name)) {
		return
	}
	for i := range ss.queue.len() {
		if e := ss.queue.at(i); e.renames() && e.statementName() == string(name) {
			return
		}
	}
	st := ss.directName(name)
	if st == nil {
		st = &statement{name: string(name), utility: true}
	}
	old.zero()
	ss.keep(st)
}

// bindTarget is the statement that a Bind names; sealed says that it may carry
// values. It is nil for a plain unnamed one, and for a name that only the server
// knows.
func (ss *session) bindTarget(name []byte) (st *statement, sealed bool) {
	if len(name) == 0 {
		return ss.unnamedStmt, ss.unnamedStmt.puts()
	}
	st = ss.stmts[string(name)]
	return st, st.puts() || st == nil && ss.lostMany
}

// holds reports whether a message that gives a name another meaning has to wait:
// the client may yet hear of an error, after which it was not executed. mu is
// held.
func (ss *session) holds(typ byte, named bool) bool {
	return ss.batch.failed && typ == wire.Parse || named && (ss.batch.failed || ss.gate == gateRows)
}

// maxDirectNames bounds what a session is remembered to have prepared.
const maxDirectNames = 1000

// keepNames remembers the prepared statements and cursors that a text makes
// from calls of the vault: what they return is as direct as the text itself.
// mu is held.
func (ss *session) keepNames(plan *rewrite.Plan) {
	for _, n := range plan.Keeps {
		if ss.directNames == nil || len(ss.directNames) >= maxDirectNames {
			ss.directNames = map[string]struct{}{}
		}
		ss.directNames[n] = struct{}{}
	}
}

// namesDirect reports whether a FETCH or EXECUTE names one of them. Words are
// compared, not parsed: a false alarm only says "direct" of what the session's
// own user asked for anyway.
func (ss *session) namesDirect(text []byte) bool {
	if len(ss.directNames) == 0 || !isUtility(text) {
		return false
	}
	notWord := func(r rune) bool { return r < 0x80 && !isWordByte(byte(r&0x7f)) }
	var folded [maxName]byte
	for w := range bytes.FieldsFuncSeq(text, notWord) {
		if len(w) > maxName {
			continue
		}
		if _, ok := ss.directNames[string(w)]; ok {
			return true
		}
		for i, c := range w {
			if folded[i] = c; c >= 'A' && c <= 'Z' {
				folded[i] |= 0x20
			}
		}
		if _, ok := ss.directNames[string(folded[:len(w)])]; ok {
			return true
		}
	}
	return false
}

// directName is a statement that stands for SQL's own of that name, if that
// calls the vault: the protocol may bind what SQL prepared, and execute what SQL
// declared. mu is held.
func (ss *session) directName(name []byte) *statement {
	if _, ok := ss.directNames[string(name)]; !ok {
		return nil
	}
	return &statement{name: string(name), utility: true, direct: true}
}
