// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"errors"
	"slices"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// An errand is what the node asks of a leg while no relay runs on it: messages,
// and after each ReadyForQuery that they are owed the answers.
type errand struct {
	msgs    []byte
	ready   int
	held    *wire.Budget // pays for the answers
	carries *int         // what it has paid
}

// errand makes one. What its answers take is given back when the move is over.
func (ss *session) errand() errand { return errand{held: &ss.srv.held, carries: &ss.carries} }

// unload gives back what errands have taken.
func (ss *session) unload() {
	ss.srv.held.Give(ss.carries)
	ss.carries = 0
}

// query adds a query of the node's own by the extended protocol, under a name of
// its own: the client's unnamed statement survives.
func (x *errand) query(own, sql string) {
	x.msgs = wire.AppendClose(x.msgs, 'S', own)
	x.msgs = wire.AppendParse(x.msgs, own, sql)
	x.run(own)
	x.msgs = wire.AppendClose(x.msgs, 'S', own)
}

// run adds an execution of a prepared statement.
func (x *errand) run(own string, params ...[]byte) {
	x.msgs = wire.AppendBind(x.msgs, own, own, params...)
	x.msgs = wire.AppendExecute(x.msgs, own)
	x.msgs = wire.AppendClose(x.msgs, 'P', own)
}

// sync ends a batch.
func (x *errand) sync() {
	x.msgs = wire.AppendEmpty(x.msgs, wire.Sync)
	x.ready++
}

// simple adds a simple Query.
func (x *errand) simple(sql string) {
	x.msgs = wire.AppendQuery(x.msgs, sql)
	x.ready++
}

// An askError is the server's error to something that the node asked. The message
// may quote the client's texts, so that only the code is told on.
type askError struct{ code, message string }

func (e *askError) Error() string { return "SQLSTATE " + e.code }

// errTooMuch is the node's own: what the session has is more than it carries.
var errTooMuch = &askError{code: stateLimit}

// maxCarried bounds the rows of one errand.
const maxCarried = 8 << 20

// do sends what was added and returns the rows of each query that ran. An
// *askError leaves the leg usable, any other error does not. late gets what the
// server says on its own: notices, parameters, notifications.
func (x *errand) do(l *leg, limit int, late func(typ byte, body []byte)) (results [][][][]byte, err error) {
	if _, err := l.Write(x.msgs); err != nil {
		return nil, err
	}
	var failed error
	var rows [][][]byte
	room := min(limit, maxCarried)
	for x.ready > 0 {
		typ, body, err := l.next(limit)
		if err != nil {
			return nil, err
		}
		switch typ {
		case wire.DataRow:
			if room -= len(body); room >= 0 && x.held.Take(len(body)) {
				*x.carries += len(body)
				rows = append(rows, rowFields(body))
			} else if room, rows = -1, nil; failed == nil {
				failed = errTooMuch
			}
		case wire.CommandComplete, wire.EmptyQueryResponse:
			results, rows = append(results, rows), nil
		case wire.ErrorResponse:
			if isFatal(body) {
				late(typ, body)
			}
			if failed == nil {
				failed = readAskError(body)
			}
		case wire.ReadyForQuery:
			if len(body) != 1 || x.ready == 1 && body[0] != wire.Idle {
				return nil, errors.New("the server is not idle after a query of the node's")
			}
			x.ready--
		case wire.NoticeResponse, wire.ParameterStatus, wire.Notification:
			late(typ, body)
		}
	}
	x.msgs = nil
	return results, failed
}

func readAskError(body []byte) *askError {
	e := &askError{}
	for _, f := range parseFields(body) {
		switch f.Code {
		case 'C':
			e.code = f.Text
		case 'M':
			e.message = f.Text
		}
	}
	return e
}

// sameRows reports whether two results are equal.
func sameRows(a, b [][][]byte) bool {
	same := func(x, y []byte) bool { return (x == nil) == (y == nil) && bytes.Equal(x, y) }
	return slices.EqualFunc(a, b, func(x, y [][]byte) bool { return slices.EqualFunc(x, y, same) })
}
