// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"encoding/binary"
	"strconv"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// What clients and servers write into message bodies. Each of these checks
// lengths before it slices; the slices alias the body.

// parseBody splits text and parameter types off a Parse.
func parseBody(b []byte) (text string, types []uint32, ok bool) {
	end := bytes.IndexByte(b, 0)
	if end < 0 {
		return "", nil, false
	}
	n, rest, ok := paramCount(b[end+1:])
	if !ok || len(rest) != 4*n {
		return "", nil, false
	}
	types = make([]uint32, n)
	for i := range types {
		types[i] = binary.BigEndian.Uint32(rest[4*i:])
	}
	return string(b[:end]), types, true
}

// bindNames splits portal and statement name off a Bind.
func bindNames(body []byte) (portal, stmt, rest []byte, ok bool) {
	p := bytes.IndexByte(body, 0)
	if p < 0 {
		return nil, nil, nil, false
	}
	s := bytes.IndexByte(body[p+1:], 0)
	if s < 0 {
		return nil, nil, nil, false
	}
	return cutName(body[:p]), cutName(body[p+1 : p+1+s]), body[p+s+2:], true
}

// parseBind splits a Bind (PostgreSQL manual, Message Formats).
func parseBind(body []byte) (b bound, ok bool) {
	var rest []byte
	if b.portal, b.stmt, rest, ok = bindNames(body); !ok {
		return b, false
	}
	n, rest, ok := paramCount(rest)
	if !ok || len(rest) < 2*n {
		return b, false
	}
	b.formats, rest = rest[:2*n], rest[2*n:]
	if b.params, rest, ok = values(rest); !ok {
		return b, false
	}
	b.results = rest
	n, tail, ok := paramCount(rest)
	return b, ok && len(tail) == 2*n
}

// values splits a counted list of values, as in Bind and DataRow. A NULL is nil.
func values(b []byte) (vs [][]byte, rest []byte, ok bool) {
	n, b, ok := paramCount(b)
	if !ok {
		return nil, nil, false
	}
	vs = make([][]byte, 0, min(n, len(b)/4+1))
	for range n {
		if len(b) < 4 {
			return nil, nil, false
		}
		size := int(int32(binary.BigEndian.Uint32(b))) //nolint:gosec // -1 is NULL
		b = b[4:]
		switch {
		case size == -1:
			vs = append(vs, nil)
			continue
		case size < 0 || size > len(b):
			return nil, nil, false
		}
		vs, b = append(vs, b[:size:size]), b[size:]
	}
	return vs, b, true
}

// fields splits a DataRow's body; nil for a malformed one.
func fields(row []byte) [][]byte {
	vs, _, _ := values(row)
	return vs
}

// rowFields copies the fields of a DataRow out of the relay's buffer.
func rowFields(body []byte) [][]byte { return fields(bytes.Clone(body)) }

// paramCount reads the number that a Bind's or ParameterDescription's list
// begins with.
func paramCount(b []byte) (int, []byte, bool) {
	if len(b) < 2 {
		return 0, nil, false
	}
	return int(binary.BigEndian.Uint16(b)), b[2:], true
}

// textArray splits a text[] of hv1 records, which need no quoting.
func textArray(b []byte) [][]byte {
	b = bytes.TrimSuffix(bytes.TrimPrefix(b, []byte("{")), []byte("}"))
	if len(b) == 0 {
		return nil
	}
	return bytes.Split(b, []byte(","))
}

// parseFields splits an ErrorResponse or NoticeResponse.
func parseFields(body []byte) []wire.Field {
	var fs []wire.Field
	for len(body) > 1 && body[0] != 0 {
		text, rest, ok := wire.CString(body[1:])
		if !ok {
			break
		}
		fs, body = append(fs, wire.Field{Code: body[0], Text: text}), rest
	}
	return fs
}

// oid reads an OID; 0 for what is none.
func oid(s string) uint32 {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}
