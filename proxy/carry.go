// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// What the node asks the server of a session before and after a move. All names
// are qualified: the session's search_path may be hostile.
const (
	sessionQuery = `SELECT kind, name, value, detail FROM vault.session_state()`

	// reportedQuery reads the settings that a server tells its clients of, in the
	// form in which it does, and the isolation in which a batch runs. Whether it is
	// a standby is not among them: of that the client is told what is true of the
	// server beside its node.
	reportedQuery = `SELECT name, setting FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) ANY (` +
		`'{application_name,client_encoding,DateStyle,default_transaction_isolation,default_transaction_read_only,integer_datetimes,IntervalStyle,` +
		`scram_iterations,server_encoding,server_version,standard_conforming_strings,TimeZone}'::pg_catalog.text[])`

	setQuery = `SELECT pg_catalog.set_config($1, $2, false)`
)

// resetText makes a leg that was left as it was after its log-in, but for what its
// sequences have given.
const resetText = "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; DEALLOCATE ALL"

// A carried is what a session has, as its server says.
type carried struct {
	state    [][][]byte // of vault.session_state(), without what is the node's
	reported [][][]byte
	unnamed  []byte // the Parse of the unnamed statement; nil: there is none
	position string // how far the primary's WAL is; empty: it is a standby
}

// pack asks the server that the session leaves what it has. It ends an open batch:
// what that has set or locked for itself only would be lost, without a word.
func (ss *session) pack(batch, fresh bool, without []string) (*carried, *sqlError, error) {
	ss.mu.Lock()
	has := &carried{}
	if ss.unnamedKept {
		has.unnamed = ss.unnamedParse
	}
	lost, known, escapes := ss.unnamedLost, ss.catalog.has(), ss.escapes || !ss.stdStrings
	ss.mu.Unlock()
	switch {
	case !known && !fresh:
		return nil, stays("the database has no vault, so the node cannot tell what the session has set",
			"Write first in a new session, connect to the node beside the primary, or CREATE EXTENSION hyperion_vault in this database."), nil
	case lost:
		return nil, stays("the node does not know the unnamed statement: it is too long, or a Parse behind it was skipped", "Use a named one, or parse it anew."), nil
	}
	results, failed, err := ss.askState(batch, fresh)
	if failed != nil || err != nil {
		return nil, failed, err
	}
	if batch {
		if !sameRows(results[0], results[1]) {
			return nil, stays("the batch has set or locked something for itself only", "Send the write as a batch of its own, or begin a block."), nil
		}
		results = results[1:]
	}
	if !fresh {
		has.state, results = ss.ours(results[0], without...), results[1:]
	}
	has.reported, results = results[0], results[1:]
	if len(results) == 1 && len(results[0]) == 1 && len(results[0][0]) == 1 {
		has.position = string(results[0][0][0])
	}
	if escapes && has.escaped() {
		return nil, stays("standard_conforming_strings was off at some time, and a prepared statement has a backslash", "Prepare it anew, or connect to the node beside the primary."), nil
	}
	return has, has.immovable(batch), nil
}

// askState asks for the session's state (twice for a batch: before its end and
// after; not of a fresh session), what the server tells of itself, and at the
// primary the position.
func (ss *session) askState(batch, fresh bool) (results [][][][]byte, failed *sqlError, err error) {
	results, err = ss.inquire(batch, fresh, false)
	var asked *askError
	if errors.As(err, &asked) && asked.code == stateFeature && !batch { // serializable by default, which no standby is
		results, err = ss.inquire(false, fresh, true)
	}
	switch {
	case errors.As(err, &asked) && asked.code == stateNoFunction:
		return nil, stays("the extension hyperion_vault in this database is older than 1.1", "ALTER EXTENSION hyperion_vault UPDATE"), nil
	case errors.As(err, &asked) && asked.code == stateCanceled: // the client's statement was meant, or has taken too long
		return nil, &sqlError{code: asked.code, message: asked.message}, nil
	case errors.As(err, &asked):
		return nil, stays("the server did not say what the session has set: "+asked.Error(), ""), nil
	case err != nil:
		ss.srv.cfg.Log.Debug("a leg broke", "server", ss.server().at.Addr, "error", err.Error())
		return nil, nil, fatalError(stateConnection, "the connection to the server was lost", "")
	}
	return results, nil, nil
}

// inquire asks for what askState says. block: in a block of its own, whose isolation
// a standby does not refuse.
func (ss *session) inquire(batch, fresh, block bool) (results [][][][]byte, err error) {
	l := ss.server()
	x := ss.errand()
	if batch {
		x.query(ss.own, sessionQuery)
		x.sync()
	}
	if block {
		x.query(ss.own, "BEGIN ISOLATION LEVEL READ COMMITTED")
	}
	if !fresh {
		x.query(ss.own, sessionQuery)
	}
	x.query(ss.own, reportedQuery)
	if l.remote() {
		x.query(ss.own, vault.SQLPosition)
	}
	x.sync()
	if block { // behind the Sync: also of a block that failed
		x.query(ss.own, "ROLLBACK")
		x.sync()
	}
	ss.limit(l, time.Now().Add(stateTimeout))
	results, err = x.do(l, ss.srv.limits().MaxQuery, ss.meanwhile(&ss.reported))
	ss.limit(l, time.Time{})
	if block && err == nil {
		results = results[1 : len(results)-1]
	}
	return results, err
}

// meanwhile passes on what a server says by itself while the node asks it.
func (ss *session) meanwhile(r *reported) func(typ byte, body []byte) {
	return func(typ byte, body []byte) {
		ss.mu.Lock()
		defer ss.mu.Unlock()
		switch {
		case typ == wire.ParameterStatus && isRole(body): // of the connection that is asked
			r.note(body)
			ss.inRole()
			return
		case typ == wire.ParameterStatus && isReport(body):
			ss.report(body)
			return
		case typ == wire.ParameterStatus:
			r.note(body)
		}
		if r == &ss.reported {
			ss.reserve(len(body) + wire.HeaderSize)
			ss.out = wire.AppendMessage(ss.out, typ, body)
		}
	}
}

// ours leaves out the node's own statement, and those named.
func (ss *session) ours(state [][][]byte, without ...string) [][][]byte {
	return slices.DeleteFunc(state, func(r [][]byte) bool {
		return len(r) != 4 || string(r[0]) == "parse" && (string(r[1]) == ss.own || slices.Contains(without, string(r[1])))
	})
}

// escaped reports whether a text reads differently with
// standard_conforming_strings off.
func (c *carried) escaped() bool {
	return bytes.IndexByte(c.unnamed, '\\') >= 0 || slices.ContainsFunc(c.state, func(r [][]byte) bool {
		return (string(r[0]) == "parse" || string(r[0]) == "prepare") && bytes.IndexByte(r[2], '\\') >= 0
	})
}

// immovable says what of the session has no copy elsewhere.
func (c *carried) immovable(batch bool) *sqlError {
	var what []string
	for _, r := range c.state {
		if string(r[0]) == "immovable" {
			what = append(what, immovableWords[string(r[1])]+" "+string(r[2]))
		}
	}
	if len(what) > 0 {
		return stays("the session holds what only its server has: "+strings.Join(what, ", "),
			"Let go of it, or connect to the node beside the primary.")
	}
	if batch && c.isolation() != "read committed" {
		return stays("the batch has read at the standby, in a transaction that sees one moment", "Send the write as a batch of its own, or begin a block.")
	}
	return nil
}

// isolation is that of the session's transactions.
func (c *carried) isolation() string {
	for _, r := range c.reported {
		if string(r[0]) == "default_transaction_isolation" {
			return string(r[1])
		}
	}
	return ""
}

var immovableWords = map[string]string{
	"setting": "setting", "advisory_lock": "advisory lock", "cursor": "cursor WITH HOLD", "library": "library",
	"listen": "LISTEN", "temp_object": "temporary object",
}

// unpack gives the leg what the session has: settings in the server's order, then
// prepared statements. passing: the connection broke.
func (ss *session) unpack(l *serverLogin, has *carried) (failed *sqlError, passing bool) {
	x := ss.errand()
	note := ss.meanwhile(&l.reported)
	flush := func(what string) *sqlError {
		if _, err := x.do(l.leg, ss.srv.limits().MaxQuery, note); err != nil {
			var asked *askError
			passing = !errors.As(err, &asked)
			return stays("the primary did not take "+what+" of the session: "+err.Error(), "")
		}
		return nil
	}
	settings := has.kind("setting")
	for chunk := range slices.Chunk(settings, 64) {
		x.msgs = wire.AppendParse(wire.AppendClose(x.msgs, 'S', ss.own), ss.own, setQuery, wire.OIDText, wire.OIDText)
		for _, r := range chunk {
			x.run(ss.own, r[1], r[2])
		}
		x.msgs = wire.AppendClose(x.msgs, 'S', ss.own)
		x.sync()
		if failed := flush("a setting"); failed != nil {
			return failed, passing
		}
	}
	for _, r := range has.kind("prepare") {
		x.query(ss.own, string(r[2])) // not a Query: it is one statement, whatever the settings are now
		x.sync()
		if failed := flush("a prepared statement"); failed != nil {
			return failed, passing
		}
	}
	for chunk := range slices.Chunk(has.kind("parse"), 64) {
		for _, r := range chunk {
			x.msgs = wire.AppendParse(x.msgs, string(r[1]), string(r[2]), oids(string(r[3]))...)
		}
		x.sync()
		if failed := flush("a prepared statement"); failed != nil {
			return failed, passing
		}
	}
	if has.unnamed != nil {
		x.msgs = wire.AppendMessage(x.msgs, wire.Parse, has.unnamed)
		x.sync()
		failed = flush("the unnamed statement")
	}
	return failed, passing
}

// tells reports whether the server that the session leaves tells the same of a
// setting.
func (c *carried) tells(row [][]byte) bool {
	return slices.ContainsFunc(c.reported, func(r [][]byte) bool { return sameRows([][][]byte{r}, [][][]byte{row}) })
}

// kind are the rows of one kind.
func (c *carried) kind(kind string) (rows [][][]byte) {
	for _, r := range c.state {
		if string(r[0]) == kind {
			rows = append(rows, r)
		}
	}
	return rows
}

// oids reads an array of OIDs.
func oids(array string) (list []uint32) {
	for s := range strings.SplitSeq(strings.Trim(array, "{}"), ",") {
		if s != "" {
			list = append(list, oid(s))
		}
	}
	return list
}

// refit makes a leg that the session has left before equal to the one that it
// leaves now.
func (ss *session) refit(l *serverLogin, has *carried) (failed *sqlError, passing bool) {
	x := ss.errand()
	x.msgs = wire.AppendClose(x.msgs, 'S', "") // of before
	x.query(ss.own, sessionQuery)
	x.sync()
	note := ss.meanwhile(&l.reported)
	results, err := x.do(l.leg, ss.srv.limits().MaxQuery, note)
	if err == nil && !sameRows(has.state, ss.ours(results[0])) {
		x.simple(resetText)
		if _, err = x.do(l.leg, ss.srv.limits().MaxQuery, note); err == nil {
			return ss.unpack(l, has)
		}
	}
	if err != nil {
		return stays("the connection from before broke: "+err.Error(), ""), true
	}
	return ss.unpack(l, &carried{unnamed: has.unnamed})
}
