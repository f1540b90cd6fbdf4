// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package hostile

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// hugeValue is the size of the one value in each message that TestHugeMessages sends,
// hugeGrowth what the node may take for all of them.
const (
	hugeValue  = 200 << 20
	hugeGrowth = 64 << 20
)

// TestHugeMessages streams one message of 200 MiB each way: what nobody opens costs
// the node a fixed buffer. The node is a fresh one, whose peak is these messages'.
func TestHugeMessages(t *testing.T) {
	node := shared.Nodes[0].StartLoose(t, nil)
	host, port, _ := strings.Cut(node.Proxy, ":")
	c, err := rawpg.Dial(t.Context(), shared.DSN(0, shared.User)+" host="+host+" port="+port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Ask(t, "C(CREATE_TABLE) Z(I)", rawpg.Query("CREATE TEMP TABLE huge (v text)"))
	before := node.Peak(t)
	received := bufio.NewReader(c.Net)
	zero := func(n int) string { return strings.Repeat("\x00", n) }
	huge := fmt.Sprintf("repeat('y', %d)", hugeValue)
	for _, m := range []struct {
		name string
		send []pgproto3.FrontendMessage
		kind byte   // of a huge message behind these, 0: none
		head string // its body but for the value
		tail string
		last []pgproto3.FrontendMessage
		want string // types of the answers, and the length of a huge one
	}{
		{name: "DataRow", send: []pgproto3.FrontendMessage{rawpg.Query("SELECT " + huge)}, want: "T D209715206 C Z"},
		{
			name: "DataRow of a portal", send: []pgproto3.FrontendMessage{rawpg.Parse("", "SELECT "+huge), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync()},
			want: "1 2 D209715206 C Z",
		},
		{name: "CopyData of the server's", send: []pgproto3.FrontendMessage{rawpg.Query("COPY (SELECT " + huge + ") TO STDOUT")}, want: "H d209715201 c C Z"},
		{
			name: "CopyData of the client's", send: []pgproto3.FrontendMessage{rawpg.Query("COPY huge FROM STDIN WHERE v IS NULL")},
			kind: 'd', tail: "\n", last: []pgproto3.FrontendMessage{&pgproto3.CopyDone{}}, want: "G C Z",
		},
		{
			name: "Bind", send: []pgproto3.FrontendMessage{rawpg.Parse("", "SELECT length($1)")},
			kind: 'B', head: zero(4) + "\x00\x01" + string(binary.BigEndian.AppendUint32(nil, hugeValue)), tail: zero(2),
			last: []pgproto3.FrontendMessage{rawpg.Execute("", 0), rawpg.Sync()}, want: "1 2 D C Z",
		},
	} {
		if err := c.Send(m.send...); err != nil {
			t.Fatal(err)
		}
		if m.kind != 0 {
			writeHuge(t, c, m.kind, m.head, m.tail)
		}
		if err := c.Net.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil { // Send has its own
			t.Fatal(err)
		}
		if err := c.Send(m.last...); err != nil {
			t.Fatal(err)
		}
		if got := answersOfAnyLength(t, received); got != m.want {
			t.Fatalf("%s: got %s, want %s", m.name, got, m.want)
		}
		if grown := node.Peak(t) - before; grown > hugeGrowth {
			t.Errorf("%s: the node has grown by %d MB", m.name, grown>>20)
		}
	}
	t.Logf("the node has grown by %d KB", (node.Peak(t)-before)>>10)
}

// writeHuge writes a message around a value of hugeValue bytes, a piece at a time.
func writeHuge(t *testing.T, c *rawpg.Conn, kind byte, head, tail string) {
	t.Helper()
	begin := binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(head)+hugeValue+len(tail)))
	if err := c.Write(append(begin, head...)); err != nil {
		t.Fatal(err)
	}
	piece := bytes.Repeat([]byte("y"), 1<<20)
	for range hugeValue / len(piece) {
		if err := c.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Write([]byte(tail)); err != nil {
		t.Fatal(err)
	}
}

// answersOfAnyLength reads up to ReadyForQuery, keeps no body, and tells the length of
// one that is long.
func answersOfAnyLength(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	var got []string
	for {
		var head [5]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			t.Fatalf("got %s, then %v", strings.Join(got, " "), err)
		}
		size := int64(binary.BigEndian.Uint32(head[1:])) - 4
		if _, err := io.CopyN(io.Discard, r, size); err != nil {
			t.Fatalf("got %s, then %v in a message %c of %d bytes", strings.Join(got, " "), err, head[0], size)
		}
		m := string(head[0])
		if size > 1<<20 {
			m += fmt.Sprint(size)
		}
		if got = append(got, m); m == "Z" {
			return strings.Join(got, " ")
		}
	}
}
