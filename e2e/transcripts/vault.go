// SPDX-License-Identifier: GPL-3.0-or-later

package transcripts

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// What stands between the steps of a conversation in a database with the vault:
// for the node a read or a put, for the server a stand-in that answers alike.
const (
	// ReadName is the secret that is read.
	ReadName = "transcripts/read"
	// ReadValue is its value.
	ReadValue = "opened"
	// Canary is what each put stores.
	Canary = "transcripts canary"
)

// A standIn is a text for the node and one for the server.
type standIn struct{ node, server string }

var (
	reading = standIn{"SELECT vault.read_secret('" + ReadName + "') AS v", "SELECT '" + ReadValue + "'::text AS v"}
	putting = standIn{"SELECT vault.put_secret('transcripts/%s', '" + Canary + "') > 0 AS v", "SELECT true AS v"}
)

// Interleave puts a read or a put, in turn, behind each step that ends idle or
// in a block. It uses names of its own and the extended protocol, so that
// nothing of the conversation's is touched. name is that of the secret put.
func (t Transcript) Interleave(name string, forNode bool) (Transcript, error) {
	steps := t.Steps
	t.Steps = nil
	for i, s := range steps {
		t.Steps = append(t.Steps, s)
		if s.Until != UntilReady {
			continue
		}
		if s.copies() {
			t.Paced = "whether its COPY has failed or goes on when the vault's message comes is a race; where it goes on, that ends the session"
		}
		text := reading
		if i%2 == 1 && t.NoPuts == "" {
			text = standIn{fmt.Sprintf(putting.node, name), putting.server}
		}
		sql := text.server
		if forNode {
			sql = text.node
		}
		step := Step{Conn: s.Conn, Until: UntilReady, N: 1}
		for _, m := range []pgproto3.FrontendMessage{
			rawpg.Parse("between", sql), rawpg.Bind("between", "between"), rawpg.DescribePortal("between"), rawpg.Execute("between", 0),
			rawpg.ClosePortal("between"), rawpg.CloseStatement("between"), rawpg.Sync(),
		} {
			b, err := m.Encode(nil)
			if err != nil {
				return t, err
			}
			step.Messages = append(step.Messages, b)
		}
		t.Steps = append(t.Steps, step)
	}
	return t, nil
}

// copies reports whether the step sends copy data and no end of it.
func (s Step) copies() bool {
	var last byte
	for _, m := range s.Messages {
		if len(m) > 0 && strings.IndexByte("dcf", m[0]) >= 0 {
			last = m[0]
		}
	}
	return last == 'd'
}
