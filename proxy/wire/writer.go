// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import "encoding/binary"

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
	dst, mark := Begin(dst, Query)
	return End(AppendString(dst, sql), mark)
}

// AppendParse appends a Parse with the given parameter types.
func AppendParse(dst []byte, name, sql string, types ...uint32) []byte {
	dst, mark := Begin(dst, Parse)
	dst = AppendString(AppendString(dst, name), sql)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(types))) //nolint:gosec // a handful of our own
	for _, t := range types {
		dst = binary.BigEndian.AppendUint32(dst, t)
	}
	return End(dst, mark)
}

// AppendBind appends a Bind of text parameters with text results; nil is NULL.
func AppendBind(dst []byte, portal, stmt string, params ...[]byte) []byte {
	dst, mark := Begin(dst, Bind)
	dst = AppendString(AppendString(dst, portal), stmt)
	dst = binary.BigEndian.AppendUint16(dst, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(params))) //nolint:gosec // a handful of our own
	for _, p := range params {
		dst = AppendParam(dst, p)
	}
	return End(binary.BigEndian.AppendUint16(dst, 0), mark)
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

// AppendDescribe appends a Describe of a statement ('S') or portal ('P').
func AppendDescribe(dst []byte, what byte, name string) []byte {
	dst, mark := Begin(dst, Describe)
	return End(AppendString(append(dst, what), name), mark)
}

// AppendExecute appends an Execute without a row limit.
func AppendExecute(dst []byte, portal string) []byte {
	dst, mark := Begin(dst, Execute)
	return End(append(AppendString(dst, portal), 0, 0, 0, 0), mark)
}

// AppendClose appends a Close of a statement ('S') or portal ('P').
func AppendClose(dst []byte, what byte, name string) []byte {
	dst, mark := Begin(dst, Close)
	return End(AppendString(append(dst, what), name), mark)
}

// AppendEmpty appends a message without a body: Sync, Flush, …
func AppendEmpty(dst []byte, typ byte) []byte { return append(dst, typ, 0, 0, 0, 4) }

// AppendReady appends ReadyForQuery with the given transaction state.
func AppendReady(dst []byte, state byte) []byte { return append(dst, ReadyForQuery, 0, 0, 0, 5, state) }

// AppendFields appends an ErrorResponse or NoticeResponse of (code, text)
// fields; empty texts are left out. PostgreSQL manual, "Error and Notice
// Message Fields".
func AppendFields(dst []byte, typ byte, fields ...Field) []byte {
	dst, mark := Begin(dst, typ)
	for _, f := range fields {
		if f.Text != "" {
			dst = AppendString(append(dst, f.Code), f.Text)
		}
	}
	return End(append(dst, 0), mark)
}

// A Field is one field of an ErrorResponse or NoticeResponse.
type Field struct {
	Code byte
	Text string
}
