// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// rowDescription finds the sealed columns of a result by their type, which
// survives aliases, views, functions and cursors, and shows them as text.
func (ss *session) rowDescription(body []byte) verdict {
	e := ss.queue.front()
	if e == nil {
		return pass
	}
	s := shape{known: true}
	var failed *sqlError
	s.cols, failed = ss.retype(body, ss.opens(e))
	v := dropIf(ss.hidden(e))
	switch e.kind {
	case oweDescribe, oweDescribePortal:
		ss.learn(e, s)
		ss.queue.pop()
	case oweQuery:
		ss.rows = s
	case oweParse, oweBind, oweExecute, oweClose, oweSync, oweCall, oweCopy:
	}
	if failed != nil && v == pass {
		ss.fail(failed)
		return drop
	}
	return v
}

// opens reports whether sealed columns of this result are opened: those of a
// statement that names the vault itself are, those of views and functions as
// VAULT_OPEN_INDIRECT says.
func (ss *session) opens(e *owed) bool {
	if ss.direct(e) {
		return true
	}
	switch ss.srv.cfg.OpenIndirect {
	case IndirectOn:
		return true
	case IndirectUsers:
		return !ss.catalog.bypasses // and see withheld
	case IndirectOff:
	}
	return false
}

// withheld reports whether the rows of a result that would be opened are not: who runs it
// now is told of behind its description, in front of the rows, and a description is kept.
func (ss *session) withheld(e *owed) bool {
	return ss.srv.cfg.OpenIndirect == IndirectUsers && (ss.reported.bypasses || ss.superuser || ss.catalog.bypasses) && !ss.direct(e)
}

func (ss *session) direct(e *owed) bool {
	switch {
	case e.task != nil && e.task.pre != nil:
		return true
	case e.task != nil && e.task.direct || e.stmt != nil && e.stmt.direct:
		return true
	case e.task != nil && e.task.plan != nil:
		return e.task.plan.Direct
	case e.stmt != nil && e.stmt.plan != nil:
		return e.stmt.plan.Direct
	}
	return false
}

// retype shows the sealed columns of a RowDescription as text, in place, and
// returns where they are. Names and origins of columns stay.
func (ss *session) retype(body []byte, open bool) (cols []int, failed *sqlError) {
	n, rest, ok := paramCount(body)
	if !ok {
		return nil, nil
	}
	for i := range n {
		end := bytes.IndexByte(rest, 0)
		if end < 0 || len(rest) < end+1+18 {
			return cols, failed
		}
		f := rest[end+1 : end+1+18] // table oid, attnum, type oid, typlen, typmod, format
		switch typ := binary.BigEndian.Uint32(f[6:]); {
		case typ != ss.catalog.sealed && typ != ss.catalog.array || typ == 0:
			ss.see(typ)
		case typ == ss.catalog.sealed:
			if !open {
				break
			}
			cols = append(cols, i)
			binary.BigEndian.PutUint32(f[6:], wire.OIDText)
			copy(f[10:16], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		default:
			failed = &sqlError{
				code: stateFeature, message: "an array of sealed values cannot be opened",
				hint: "Select vault.read_secret() as a column of its own, or unnest the array.",
			}
		}
		rest = rest[end+1+18:]
	}
	return cols, failed
}

// parameterDescription hides the parameters that the node appended.
func (ss *session) parameterDescription(body []byte) verdict {
	e := ss.queue.front()
	if e == nil || e.kind != oweDescribe {
		return pass
	}
	if ss.hidden(e) {
		return drop
	}
	if e.stmt == nil || len(e.stmt.calls) == 0 {
		return pass
	}
	n, rest, ok := paramCount(body)
	keep := n - len(e.stmt.calls)
	if !ok || keep < 0 || len(rest) != 4*n {
		return pass
	}
	ss.gather()
	out, mark := wire.Begin(ss.out, wire.ParameterDescription)
	out = binary.BigEndian.AppendUint16(out, uint16(keep)) //nolint:gosec // less than it was
	ss.out = wire.End(append(out, rest[:4*keep]...), mark)
	return drop
}

// sealedRow returns the sealed columns of the rows that come now; nil if there
// are none.
func (ss *session) sealedRow() []int {
	e := ss.queue.front()
	if e == nil {
		return nil
	}
	switch {
	case e.kind == oweQuery:
		return ss.rows.cols
	case e.kind != oweExecute:
		return nil
	case e.portal != nil:
		return e.portal.shape.cols
	}
	return ss.portalShape.cols
}

// collecting reports whether the rows that come now are for the node.
func (ss *session) collecting() bool {
	e := ss.queue.front()
	return e != nil && e.task != nil && e.task.pre != nil
}

func (ss *session) dataRow(body []byte) verdict {
	e := ss.queue.front()
	if e == nil {
		return pass
	}
	if t := e.task; t != nil && t.pre != nil {
		t.pre.collect(t, body)
		return drop
	}
	if ss.dropping {
		return drop
	}
	if ss.sealedRow() != nil && !ss.withheld(e) {
		return opening
	}
	if e.task != nil && e.task.reads && !e.task.noticed && bytes.Contains(body, []byte("hv1.")) {
		ss.sealedText()
	}
	return pass
}

// maxAsked bounds the rows of a query of the node's own.
const maxAsked = 1000

// collect keeps the one row that a group of the prelude gives, or the rows of a
// query of the node's own.
func (p *prelude) collect(t *task, body []byte) {
	switch {
	case t.group >= 0:
		p.rows[t.group] = rowFields(body)
	case len(p.rows) < maxAsked:
		p.rows = append(p.rows, rowFields(body))
	}
}

// sealedText tells the client, once a statement, that sealed text was left in
// place: it reached the result by another type.
func (ss *session) sealedText() {
	e := ss.queue.front()
	if e == nil || e.task == nil || !e.task.reads || e.task.noticed || ss.dropping {
		return
	}
	e.task.noticed = true
	ss.gather()
	ss.out = wire.AppendFields(ss.out, wire.NoticeResponse,
		wire.Field{Code: 'S', Text: "NOTICE"}, wire.Field{Code: 'V', Text: "NOTICE"}, wire.Field{Code: 'C', Text: "00000"},
		wire.Field{Code: 'M', Text: "sealed text left in place"},
		wire.Field{Code: 'H', Text: "Select vault.read_secret() as a column of its own to have it opened."})
}

// maxOpen bounds how many rows are opened, and audited, in one piece.
const maxOpen = 1024

// openRows opens the run of sealed rows at the buffer's front and appends them
// to out. mu is held, and given up while the core works.
func (ss *session) openRows() error {
	cols := ss.sealedRow()
	e := ss.queue.front()
	direct := ss.direct(e)
	buf := ss.sr.Buffered()
	var rows [][][]byte
	var texts [][]byte
	used := 0
	for len(rows) < maxOpen {
		typ, size, ok, err := ss.sr.Header(used)
		if err != nil || !ok || typ != wire.DataRow || len(buf)-used < size {
			break
		}
		row := fields(buf[used+wire.HeaderSize : used+size])
		if len(row) <= cols[len(cols)-1] {
			return fatalError(stateProtocol, "the server sent a row that does not match its description", "")
		}
		for _, c := range cols {
			if row[c] != nil {
				texts = append(texts, row[c])
			}
		}
		rows, used = append(rows, row), used+size
	}
	plains, failed := ss.openTexts(direct, texts)
	if failed == nil {
		failed = ss.encodable(plains)
	}
	if failed != nil {
		vault.ZeroAll(plains)
		ss.sr.Discard(used)
		ss.fail(failed)
		return nil
	}
	ss.outSecret = true
	for _, row := range rows {
		for _, c := range cols {
			if row[c] != nil {
				row[c], plains = plains[0].Bytes(), plains[1:]
			}
		}
		ss.appendRow(row)
		for _, c := range cols {
			clear(row[c])
		}
	}
	ss.sr.Discard(used)
	return nil
}

// encodable refuses values that the session's encoding would show as others: the
// node does not convert.
func (ss *session) encodable(plains []vault.Plain) *sqlError {
	if ss.encoding == "UTF8" || ss.encoding == "SQL_ASCII" {
		return nil
	}
	for _, p := range plains {
		if slices.ContainsFunc(p.Bytes(), func(b byte) bool { return b >= 0x80 }) {
			return &sqlError{
				code: stateUntranslatable, message: "a secret is not ASCII, and this session's client_encoding is not UTF8",
				hint: "SET client_encoding = 'UTF8'.",
			}
		}
	}
	return nil
}

func (ss *session) openTexts(direct bool, texts [][]byte) ([]vault.Plain, *sqlError) {
	if len(texts) == 0 {
		return nil, nil
	}
	if e := ss.secretsAllowed(); e != nil {
		return nil, e
	}
	a := ss.opener(statementOf(ss.queue.front()))
	ss.mu.Unlock()
	ctx := ss.operate(opBack)
	plains, err := ss.srv.cfg.Vault.OpenSealed(ctx, a, direct, texts)
	canceled := ctx.Err() != nil
	ss.operated(opBack)
	ss.mu.Lock()
	switch {
	case err == nil:
		return plains, nil
	case canceled:
		return nil, errGivenUp
	}
	return nil, ss.fromVault(err)
}

// opener is who opens what the session's server has read for a statement.
func (ss *session) opener(statement uint64) vault.Actor {
	a := ss.who(statement)
	l := ss.server()
	a.Moved, a.Since = l.remote(), l.since
	return a
}

// reserve makes room in out for n bytes. The buffer may hold plaintext: what it
// leaves behind when it grows is zeroed. mu is held.
func (ss *session) reserve(n int) {
	if len(ss.out)+n <= cap(ss.out) {
		return
	}
	next := make([]byte, len(ss.out), 2*cap(ss.out)+n)
	copy(next, ss.out)
	clear(ss.out)
	ss.out = next
}

// appendRow appends a DataRow.
func (ss *session) appendRow(row [][]byte) {
	need := wire.HeaderSize + 2
	for _, f := range row {
		need += 4 + len(f)
	}
	ss.reserve(need)
	out, mark := wire.Begin(ss.out, wire.DataRow)
	out = binary.BigEndian.AppendUint16(out, uint16(len(row))) //nolint:gosec // it came from 16 bits
	for _, f := range row {
		out = wire.AppendParam(out, f)
	}
	ss.out = wire.End(out, mark)
}

// readOnly reports whether what e stands for is known to have changed nothing.
func readOnly(e *owed) bool {
	switch {
	case e.task != nil && e.task.plan != nil:
		return e.task.plan.ReadOnly
	case e.stmt != nil && e.stmt.plan != nil:
		return e.stmt.plan.ReadOnly
	}
	return false
}

// fail answers a result that could not be opened: one error in its place, and
// nothing more for the client up to ReadyForQuery. mu is held.
func (ss *session) fail(e *sqlError) {
	ss.noteFailed(ss.queue.front(), e)
	if owed := ss.queue.front(); owed != nil && ss.state == wire.Idle && ss.queue.ends > 0 && e.detail == "" && !readOnly(owed) {
		with := *e
		with.detail = "The server may have executed and committed the statement before its rows could be opened."
		if owed.kind == oweQuery {
			with.detail = "The server had executed and committed the statement before its rows could be opened."
		}
		e = &with
	}
	ss.gather()
	ss.out = e.append(ss.out)
	ss.dropping = true
	ss.srv.metrics.calls.WithLabelValues("read", e.code).Inc()
	if ss.queue.ends == 0 {
		ss.batch.failed = true
		if ss.waiting {
			ss.cond.Broadcast()
		}
	}
}
