// SPDX-License-Identifier: GPL-3.0-or-later

package rawpg

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Ask sends messages in one write and compares the answers with want. The first
// that differs ends the test, with what came until then.
func (c *Conn) Ask(tb testing.TB, want string, msgs ...pgproto3.FrontendMessage) {
	tb.Helper()
	if err := c.Send(msgs...); err != nil {
		tb.Fatalf("send: %v (want %s)", err, want)
	}
	c.Expect(tb, want)
}

// Expect reads as many messages as want has and compares.
func (c *Conn) Expect(tb testing.TB, want string) {
	tb.Helper()
	var got []string
	for _, w := range strings.Fields(want) {
		m, err := c.Receive()
		if err != nil {
			tb.Fatalf("got %s, then %v\nwant %s", strings.Join(got, " "), err, want)
		}
		got = append(got, m.String())
		if got[len(got)-1] != w {
			more := ""
			if m.Type == 'E' {
				more = "\n" + c.Err.Message + "\n" + c.Err.Detail + "\n" + c.Err.Hint
			}
			tb.Fatalf("got  %s …\nwant %s%s", strings.Join(got, " "), want, more)
		}
	}
}

// Answers reads up to ReadyForQuery and returns all that came, as String tells it.
func (c *Conn) Answers(tb testing.TB) []string {
	tb.Helper()
	var got []string
	for {
		m, err := c.Receive()
		if err != nil {
			tb.Fatalf("got %s, then %v", strings.Join(got, " "), err)
		}
		got = append(got, m.String())
		if m.Type == 'Z' {
			return got
		}
	}
}

// Rows sends a Query, which must work, and returns its rows, one a line.
func (c *Conn) Rows(tb testing.TB, sql string) string {
	tb.Helper()
	if err := c.Send(Query(sql)); err != nil {
		tb.Fatal(err)
	}
	var rows []string
	for _, m := range c.Answers(tb) {
		switch m[0] {
		case 'E':
			tb.Fatalf("%s: %s: %s %s", sql, c.Err.Code, c.Err.Message, c.Err.Detail)
		case 'D':
			rows = append(rows, m)
		}
	}
	return strings.Join(rows, "\n")
}

// Settled checks that nothing more was sent: a Sync is answered by exactly a
// ReadyForQuery of the given state.
func (c *Conn) Settled(tb testing.TB, state string) {
	tb.Helper()
	c.Ask(tb, "Z("+state+")", Sync())
}
