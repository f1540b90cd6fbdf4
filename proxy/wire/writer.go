// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import (
	"encoding/binary"

	"github.com/jackc/pgproto3/v2"
)

// Begin appends the header of a message of type typ with its length still
// open; End closes it.
func Begin(dst []byte, typ byte) (out []byte, mark int) {
	return append(dst, typ, 0, 0, 0, 0), len(dst) + 1
}

// End writes the length of the message begun at mark. The caller has bounded
// it: a body beyond MaxLarge must be refused before (CVE-2024-27304).
func End(dst []byte, mark int) []byte {
	binary.BigEndian.PutUint32(dst[mark:], uint32(len(dst)-mark)) //nolint:gosec // bounded by MaxLarge
	return dst
}

// AppendMessage appends a message with the given body.
func AppendMessage(dst []byte, typ byte, body []byte) []byte {
	dst, mark := Begin(dst, typ)
	return End(append(dst, body...), mark)
}

// AppendString appends a string and its terminating zero byte.
func AppendString(dst []byte, s string) []byte { return append(append(dst, s...), 0) }

// AppendQuery appends a simple Query.
func AppendQuery(dst []byte, sql string) []byte {
	return encode(dst, &pgproto3.Query{String: sql})
}

// AppendParse appends a Parse with the given parameter types.
func AppendParse(dst []byte, name, sql string, types ...uint32) []byte {
	return encode(dst, &pgproto3.Parse{Name: name, Query: sql, ParameterOIDs: types})
}

// AppendBind appends a Bind of text parameters with text results; nil is NULL.
func AppendBind(dst []byte, portal, stmt string, params ...[]byte) []byte {
	return encode(dst, &pgproto3.Bind{DestinationPortal: portal, PreparedStatement: stmt, Parameters: params})
}

// AppendDescribe appends a Describe of a statement ('S') or portal ('P').
func AppendDescribe(dst []byte, what byte, name string) []byte {
	return encode(dst, &pgproto3.Describe{ObjectType: what, Name: name})
}

// AppendExecute appends an Execute without a row limit.
func AppendExecute(dst []byte, portal string) []byte {
	return encode(dst, &pgproto3.Execute{Portal: portal})
}

// AppendClose appends a Close of a statement ('S') or portal ('P').
func AppendClose(dst []byte, what byte, name string) []byte {
	return encode(dst, &pgproto3.Close{ObjectType: what, Name: name})
}

// AppendError appends an ErrorResponse.
func AppendError(dst []byte, e *pgproto3.ErrorResponse) []byte { return encode(dst, e) }

// encode appends a message of the node's own making, which is far below the
// protocol's limit: the encoder's only error.
func encode(dst []byte, m pgproto3.Message) []byte {
	out, err := m.Encode(dst)
	if err != nil {
		panic("internal error: a message of the node's own is too long")
	}
	return out
}

// AppendParam appends one length-prefixed value as Bind and DataRow have them;
// nil is NULL.
func AppendParam(dst, p []byte) []byte {
	if p == nil {
		return append(dst, 0xff, 0xff, 0xff, 0xff)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(p))) //nolint:gosec // bounded by MaxLarge
	return append(dst, p...)
}

// AppendEmpty appends a message without a body: Sync, Flush, …
func AppendEmpty(dst []byte, typ byte) []byte { return append(dst, typ, 0, 0, 0, 4) }

// AppendReady appends ReadyForQuery with the given transaction state.
func AppendReady(dst []byte, state byte) []byte { return append(dst, ReadyForQuery, 0, 0, 0, 5, state) }

// AppendFields appends an ErrorResponse or NoticeResponse of (code, text)
// fields. PostgreSQL manual, "Error and Notice Message Fields".
func AppendFields(dst []byte, typ byte, fields ...Field) []byte {
	dst, mark := Begin(dst, typ)
	for _, f := range fields {
		dst = AppendString(append(dst, f.Code), f.Text)
	}
	return End(append(dst, 0), mark)
}

// A Field is one field of an ErrorResponse or NoticeResponse.
type Field struct {
	Code byte
	Text string
}
