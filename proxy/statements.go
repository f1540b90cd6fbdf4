// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// frontState is what the client sent. Guarded by mu.
type frontState struct {
	stmts   map[string]*statement // named ones, by the name cut at 63 bytes
	portals map[string]*portal
	// The unnamed statement and portal: no object is made for a plain one, so
	// that untouched traffic allocates nothing.
	unnamedStmt      *statement
	unnamedDescribed bool
	unnamedUtility   bool
	unnamedPortal    portal
	cleared          bool                // all named statements are gone, and the client has used no name since
	crowded          int                 // how often a name found no room
	lostMany         bool                // more names were lost than can be remembered
	hasPuts          bool                // a named statement of this session carries values, or was meant to
	directNames      map[string]struct{} // SQL's own prepared statements and cursors over the vault's calls
	batch            batch
	gate             gate
	used             bool   // anything was prepared or run
	unanswered       int    // about how much text of Parses is kept until they are answered
	runs             uint64 // messages that may have run functions or SQL, which may close a cursor and open another one of its name: see portal.seen
	unnamedParse     []byte // the body of the Parse of the unnamed statement, at a standby
	unnamedKept      bool   // there is one in unnamedParse
	unnamedLost      bool   // there is one that was too long
	order            *order // for the back
	skip             bool   // the node refused a message: the client's are dropped up to Sync
	leaving          bool   // it has said goodbye
}

// batch is what was sent since the last Sync or Query.
type batch struct {
	open     bool // any message
	executed bool // a Bind or Execute: a setting may have changed
	dirty    bool // an Execute that is not known to be read-only
	failed   bool // an opening failed, and the server does not know yet
}

// gate says what has to be waited for before something that could not be
// undone is sent.
type gate int

const (
	gateNone  gate = iota
	gateRows       // an Execute that reads secrets is not opened yet
	gateReady      // a Query, or the Sync behind such an Execute, is not answered yet
)

// shape is where the sealed columns of a result are.
type shape struct {
	known bool
	cols  []int // nil: none
}

// plain reports whether it is known that no column is sealed.
func (s shape) plain() bool { return s.known && len(s.cols) == 0 }

// A statement is a prepared statement of the client's.
type statement struct {
	name      string
	utility   bool  // its shape may change between executions
	described bool  // a Describe was sent, or the shape is known
	shape     shape // the back's

	route  rewrite.Route // where a standby's session runs it
	direct bool          // it executes or fetches from something that names the vault
	plan   *rewrite.Plan // nil: the vault is not concerned
	own    int           // how many parameters the client knows of
	calls  []int         // the call that each appended parameter belongs to
	values [][]byte      // literal values by call, sealed anew at each Bind
	lost   bool          // it carried values, and the server has skipped its Parse, or dropped it
	lostAt uint64        // frontState.runs when the client last may have meant to prepare it in vain
}

// puts reports whether a Bind of st carries values. It does also if the server
// has skipped the Parse: a client that pipelines does not know that yet, and
// its values must not be bound to what the name stood for before. And if it has dropped all
// statements: the client may believe in this one.
func (st *statement) puts() bool {
	return st != nil && (st.lost || st.plan != nil && len(st.plan.Calls) > 0)
}

func (st *statement) reads() bool { return st != nil && st.plan != nil && st.plan.Reads }

// prepares are the names that SQL prepares by an execution of st.
func (st *statement) prepares() []string {
	if st == nil || st.plan == nil {
		return nil
	}
	return st.plan.Prepares
}

// unready reports whether st may not be run now: it changes something, and no record
// can be written.
func (ss *session) unready(st *statement) bool {
	return st != nil && st.plan != nil && st.plan.Writes && ss.srv.cfg.Vault.AuditReady() != nil
}

// zero erases the literal values. Safe on nil.
func (st *statement) zero() {
	if st == nil {
		return
	}
	for _, v := range st.values {
		erase.Zero(v)
	}
	st.values = nil
}

// A portal is a bound statement. Its shape belongs to it: closing the statement
// leaves it runnable.
type portal struct {
	name      string
	stmt      *statement
	described bool
	readOnly  bool
	reads     bool
	seen      uint64 // frontState.runs when it was described by itself: its own Bind runs code, too
	shape     shape  // the back's; of named portals only
}

// undo takes back what the front noted for a message that the server skipped. If
// the client has used the name again since, what it stood for before is what
// that message will be undone to.
func (ss *session) undo(e *owed) {
	if e.task != nil && e.task.pre != nil {
		e.task.pre.failed = true
	}
	switch e.kind {
	case oweParse, oweQuery:
		if e.stmt.puts() {
			e.prev.zero()
			e.prev = &statement{name: e.stmt.name, lost: true, lostAt: e.stmt.lostAt}
			e.stmt.zero()
		}
		if !e.named {
			ss.undoUnnamed(e)
		} else if e.stmt != nil {
			ss.undoNamed(e.stmt.name, e.stmt, e.prev)
		}
	case oweClose:
		if e.prev != nil && e.named {
			ss.undoNamed(e.prev.name, nil, e.prev)
		}
	case oweBind:
		ss.undoBind(e)
	case oweDescribe:
		if e.stmt == nil {
			ss.unnamedDescribed = false
		} else if !e.stmt.shape.known {
			e.stmt.described = false
		}
	case oweDescribePortal:
		if e.portal != nil {
			e.portal.described = false
		} else {
			ss.unnamedPortal.described = false
		}
	case oweExecute, oweSync, oweCall, oweCopy:
	}
}

// undoBind does so for a portal.
func (ss *session) undoBind(e *owed) {
	switch {
	case e.portal == nil && ss.queue.next(unnamedBind) == nil:
		ss.unnamedPortal = portal{}
	case e.portal != nil && ss.portals[e.portal.name] == e.portal:
		delete(ss.portals, e.portal.name)
		if e.prevP != nil {
			ss.portals[e.portal.name] = e.prevP
		}
	}
}

// undoNamed makes name stand for prev again, in place of st (nil: nothing).
func (ss *session) undoNamed(name string, st, prev *statement) {
	if later := ss.queue.next(name); later != nil {
		if later.prev == st {
			later.prev = prev
		}
	} else if ss.stmts[name] == st {
		ss.restore(name, prev)
	}
}

// undoUnnamed does so for the unnamed statement. A plain one is nil, so that only
// the queue can tell whether it is still the one.
func (ss *session) undoUnnamed(e *owed) {
	if later := ss.queue.next(""); later != nil {
		if later.prev == e.stmt {
			later.prev = e.prev
		}
		return
	}
	if ss.unnamedStmt == e.stmt {
		ss.unnamedStmt = e.prev
	}
	ss.unnamedDescribed, ss.unnamedUtility = false, true
	ss.forgetUnnamed()
	// Of a Parse that the server has skipped it still has the statement before,
	// which is kept nowhere; one that has failed leaves none.
	ss.unnamedLost = ss.queue.n > 0 && e != ss.queue.at(0) && (ss.roams() || ss.away())
}

// keepUnnamed keeps the Parse of the unnamed statement: a server does not tell its
// text. mu is held.
func (ss *session) keepUnnamed(body []byte) {
	if !ss.roams() && !ss.away() {
		return
	}
	ss.forgetUnnamed()
	if len(body) > maxTrial {
		ss.unnamedLost = true
		return
	}
	ss.unnamedParse, ss.unnamedKept = append(ss.unnamedParse, body...), true
	switch t := ss.trial; {
	case t == nil:
	case t.before: // which the primary does not have
		ss.spoilTrial()
	default:
		t.unnamed = true
	}
}

// usesUnnamed notes a message that is about the unnamed statement. mu is held.
func (ss *session) usesUnnamed() {
	if t := ss.trial; t != nil && !t.unnamed {
		t.before = true
	}
}

// forgetUnnamed notes that there is none. mu is held.
func (ss *session) forgetUnnamed() {
	ss.unnamedParse, ss.unnamedKept, ss.unnamedLost = ss.unnamedParse[:0], false, false
	if cap(ss.unnamedParse) > maxIdleOut {
		ss.unnamedParse = nil
	}
}

func (ss *session) restore(name string, st *statement) {
	if st == nil {
		delete(ss.stmts, name)
		return
	}
	ss.keep(st)
}

// forgetShapes is called when names may mean something else: DEALLOCATE and
// DISCARD remove protocol-level statements without a CloseComplete.
func (ss *session) forgetShapes() {
	for _, st := range ss.stmts {
		st.described, st.utility = false, true
	}
}

// unlearn forgets what Describes have said: the statements were parsed anew elsewhere,
// and may give something else. What a trial has parsed is compared. mu is held.
func (ss *session) unlearn() {
	if t := ss.trial; t == nil || t.refused == nil || !t.unnamed {
		ss.unnamedDescribed, ss.stmtShape = false, shape{}
		if ss.unnamedStmt != nil {
			ss.unnamedStmt.described, ss.unnamedStmt.shape = false, shape{}
		}
	}
	for _, st := range ss.stmts {
		st.described, st.shape = false, shape{}
	}
}

// maxName is what the server keeps of a name: NAMEDATALEN - 1 bytes.
const maxName = 63

// cutName is a statement's or portal's name as the server keeps it.
func cutName(b []byte) []byte {
	if len(b) > maxName {
		return b[:maxName]
	}
	return b
}

// plainWords begin the statements whose row shape is fixed while they are
// prepared. Everything else (FETCH, EXECUTE, CALL, a comment) is described
// before each execution.
var plainWords = []string{
	"select", "insert", "update", "delete", "with", "values", "table", "begin", "commit", "end",
	"rollback", "set", "savepoint", "release", "start", "create", "alter", "drop",
}

// isUtility looks at a text's first word.
func isUtility(text []byte) bool {
	i := 0
	for i < len(text) && (text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r') {
		i++
	}
	text = text[i:]
	for _, w := range plainWords {
		if len(text) > len(w) && equalFold(text[:len(w)], w) && !isWordByte(text[len(w)]) {
			return false
		}
	}
	return len(text) > 0
}

func equalFold(b []byte, lower string) bool {
	for i := range b {
		if b[i]|0x20 != lower[i] {
			return false
		}
	}
	return true
}

func isWordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80 || c == '$'
}
