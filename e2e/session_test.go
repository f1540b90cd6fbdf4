// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// A session is a connection of raw messages whose answers are judged as a
// whole, whatever their order within.
type session struct {
	*rawpg.Conn
	tb testing.TB
}

// openSession logs in by dsn.
func openSession(t *testing.T, dsn string) *session {
	t.Helper()
	return &session{Conn: dial(t, dsn), tb: t}
}

// An answer is what came up to ReadyForQuery, or to the end of the session.
type answer struct {
	types  string // the messages' types, ReadyForQuery left out
	rows   []string
	errors []*pgproto3.ErrorResponse
	status byte // of the transaction; 0: the session ended
}

// do sends messages and reads their answer.
func (s *session) do(messages ...pgproto3.FrontendMessage) answer {
	s.tb.Helper()
	if err := s.Send(messages...); err != nil {
		s.tb.Fatalf("send: %v", err)
	}
	return s.read()
}

// read reads up to ReadyForQuery or the session's end. That neither comes is a
// failure.
func (s *session) read() answer {
	s.tb.Helper()
	var a answer
	for {
		m, err := s.Receive()
		var silence net.Error
		switch {
		case errors.As(err, &silence) && silence.Timeout():
			s.tb.Fatalf("no answer within %s, after %q", rawpg.Patience, a.types)
		case err != nil:
			return a
		case m.Type == 'Z':
			a.status = m.Body[0]
			return a
		}
		a.types += string(rune(m.Type))
		switch m.Type {
		case 'E':
			a.errors = append(a.errors, s.Err)
		case 'D':
			var row pgproto3.DataRow
			if err := row.Decode(m.Body); err != nil {
				s.tb.Fatal(err)
			}
			for _, v := range row.Values {
				a.rows = append(a.rows, string(v))
			}
		}
	}
}

// query is do for one text by the simple protocol.
func (s *session) query(sql string) answer {
	s.tb.Helper()
	return s.do(rawpg.Query(sql))
}

// must is query for what has to work; it returns the values of its rows.
func (s *session) must(sql string) []string {
	s.tb.Helper()
	a := s.query(sql)
	if len(a.errors) > 0 || a.status == 0 {
		s.tb.Fatalf("%.200s: %s", sql, a)
	}
	return a.rows
}

// batch are the messages of texts by the extended protocol, each described, up
// to one Sync.
func batch(texts ...string) []pgproto3.FrontendMessage {
	var messages []pgproto3.FrontendMessage
	for _, sql := range texts {
		messages = append(messages, rawpg.Parse("", sql), rawpg.Bind("", ""), rawpg.DescribePortal(""), rawpg.Execute("", 0))
	}
	return append(messages, rawpg.Sync())
}

// String is for messages of failing tests.
func (a answer) String() string {
	text := fmt.Sprintf("messages %q, status %q", a.types, a.status)
	for _, e := range a.errors {
		text += fmt.Sprintf(", %s %s: %s (%s) (%s)", e.Severity, e.Code, e.Message, e.Detail, e.Hint)
	}
	if len(a.rows) > 0 {
		text += fmt.Sprintf(", rows %.200q", a.rows)
	}
	return text
}
