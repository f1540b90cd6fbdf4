// SPDX-License-Identifier: GPL-3.0-or-later

package rawpg

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgproto3"
)

// String is the message's short spelling: its type byte and, in parentheses,
// what a test wants to know of it. Blanks are written as underscores, so that a
// conversation can be split at blanks.
func (m Message) String() string {
	text, err := m.describe()
	if err != nil {
		return fmt.Sprintf("%c(malformed)", m.Type)
	}
	if text == "" {
		return string(m.Type)
	}
	return fmt.Sprintf("%c(%s)", m.Type, strings.NewReplacer(" ", "_", "\n", "_").Replace(text))
}

func (m Message) describe() (string, error) {
	switch m.Type {
	case 'T':
		return m.columns()
	case 'D':
		return m.row()
	case 't':
		return m.parameters()
	case 'E':
		var e pgproto3.ErrorResponse
		err := e.Decode(m.Body)
		return e.Code, err
	case 'N':
		var n pgproto3.NoticeResponse
		err := n.Decode(m.Body)
		return n.Message, err
	case 'A':
		var a pgproto3.NotificationResponse
		err := a.Decode(m.Body)
		return a.Channel + ":" + a.Payload, err
	case 'S':
		var s pgproto3.ParameterStatus
		err := s.Decode(m.Body)
		return s.Name + "=" + s.Value, err
	case 'C':
		return strings.TrimSuffix(string(m.Body), "\x00"), nil
	case 'Z', 'd':
		return string(m.Body), nil
	case 'V':
		return hex.EncodeToString(m.Body), nil
	case 'R':
		return m.authentication()
	case 'K': // what it holds is drawn anew each time
		return fmt.Sprintf("%d_bytes", len(m.Body)), nil
	case 'v':
		return m.negotiation()
	}
	return "", nil
}

// columns spells name:type, and :b for the binary format.
func (m Message) columns() (string, error) {
	var d pgproto3.RowDescription
	if err := d.Decode(m.Body); err != nil {
		return "", err
	}
	var cols []string
	for _, f := range d.Fields {
		col := fmt.Sprintf("%s:%d", f.Name, f.DataTypeOID)
		if f.Format != 0 {
			col += ":b"
		}
		cols = append(cols, col)
	}
	return strings.Join(cols, ","), nil
}

// row spells the fields; NULL is ∅, what is no text is in hex, and a sealed text
// is cut down to its prefix.
func (m Message) row() (string, error) {
	var d pgproto3.DataRow
	if err := d.Decode(m.Body); err != nil {
		return "", err
	}
	var cols []string
	for _, v := range d.Values {
		switch {
		case v == nil:
			cols = append(cols, "∅")
		case strings.HasPrefix(string(v), "hv1."):
			cols = append(cols, "hv1.")
		case !utf8.Valid(v) || strings.ContainsRune(string(v), 0):
			cols = append(cols, "x"+hex.EncodeToString(v))
		default:
			cols = append(cols, string(v))
		}
	}
	return strings.Join(cols, ","), nil
}

func (m Message) parameters() (string, error) {
	var p pgproto3.ParameterDescription
	if err := p.Decode(m.Body); err != nil {
		return "", err
	}
	var oids []string
	for _, oid := range p.ParameterOIDs {
		oids = append(oids, fmt.Sprint(oid))
	}
	return strings.Join(oids, ","), nil
}

// authentication spells the request's code, and the mechanisms that are offered.
func (m Message) authentication() (string, error) {
	if len(m.Body) < 4 {
		return "", errors.New("too short")
	}
	code := binary.BigEndian.Uint32(m.Body)
	text := fmt.Sprint(code)
	if code == 10 {
		text += ":" + strings.ReplaceAll(strings.Trim(string(m.Body[4:]), "\x00"), "\x00", ",")
	}
	return text, nil
}

// negotiation spells NegotiateProtocolVersion: the newest minor version, and the
// options that are not known.
func (m Message) negotiation() (string, error) {
	if len(m.Body) < 8 {
		return "", errors.New("too short")
	}
	version := binary.BigEndian.Uint32(m.Body)
	options := strings.ReplaceAll(strings.Trim(string(m.Body[8:]), "\x00"), "\x00", ",")
	return fmt.Sprintf("%d.%d:%d:%s", version>>16, version&0xffff, binary.BigEndian.Uint32(m.Body[4:]), options), nil
}

// Query is a simple query.
func Query(sql string) *pgproto3.Query { return &pgproto3.Query{String: sql} }

// Parse prepares a statement.
func Parse(name, sql string, types ...uint32) *pgproto3.Parse {
	return &pgproto3.Parse{Name: name, Query: sql, ParameterOIDs: types}
}

// Bind binds text parameters, results in text.
func Bind(portal, stmt string, params ...string) *pgproto3.Bind {
	b := &pgproto3.Bind{DestinationPortal: portal, PreparedStatement: stmt}
	for _, p := range params {
		b.Parameters = append(b.Parameters, []byte(p))
	}
	return b
}

// DescribePortal asks for a portal's row shape.
func DescribePortal(name string) *pgproto3.Describe {
	return &pgproto3.Describe{ObjectType: 'P', Name: name}
}

// DescribeStatement asks for a statement's parameters and row shape.
func DescribeStatement(name string) *pgproto3.Describe {
	return &pgproto3.Describe{ObjectType: 'S', Name: name}
}

// Execute runs a portal for at most rows rows, 0 for all.
func Execute(portal string, rows uint32) *pgproto3.Execute {
	return &pgproto3.Execute{Portal: portal, MaxRows: rows}
}

// ClosePortal closes a portal.
func ClosePortal(name string) *pgproto3.Close {
	return &pgproto3.Close{ObjectType: 'P', Name: name}
}

// CloseStatement closes a prepared statement.
func CloseStatement(name string) *pgproto3.Close {
	return &pgproto3.Close{ObjectType: 'S', Name: name}
}

// Flush asks for the answers without ending the batch.
func Flush() *pgproto3.Flush { return &pgproto3.Flush{} }

// Sync ends the batch.
func Sync() *pgproto3.Sync { return &pgproto3.Sync{} }
