// SPDX-License-Identifier: GPL-3.0-or-later

package transcripts

import (
	"bytes"
	"encoding/binary"
	"regexp"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// This file is all that may differ between two answers that count as the same:
//
//   - R: nonces, salts and proofs of SCRAM are drawn anew each time;
//   - K: so are process id and cancel key; its length counts;
//   - A: the sender's process id is "this session" or "another one";
//   - T: the OID of a table that was made in the conversation;
//   - E, N: the number in the name of a schema of temporary tables;
//   - E: the place in PostgreSQL's source that raised the error (F, L, R), where
//     the node raised it in the server's place, and, in a database with the
//     vault, everywhere: there a portal that the node has described first fails
//     in another line.

var tempSchema = regexp.MustCompile(`pg_temp_[0-9]+`)

// firstOwnOID is the first that an object made by a user gets.
const firstOwnOID = 16384

// An answer is one message as it is compared.
type answer struct {
	text  string // all that must be the same
	place string // F, L and R of an error
	short string // for a person
}

// masked is a message without what differs from run to run.
func masked(m rawpg.Message, pid uint32) (answer, error) {
	a := answer{text: string(m.Type) + string(m.Body), short: m.String()}
	switch m.Type {
	case 'R', 'K':
		a.text = a.short
	case 'A':
		sender := "another"
		if len(m.Body) >= 4 && binary.BigEndian.Uint32(m.Body) == pid {
			sender = "this"
		}
		a.text = "A " + sender + " " + string(m.Body[min(4, len(m.Body)):])
	case 'T':
		var d pgproto3.RowDescription
		if err := d.Decode(m.Body); err != nil {
			return a, err
		}
		for i := range d.Fields {
			if d.Fields[i].TableOID >= firstOwnOID {
				d.Fields[i].TableOID = 0
			}
		}
		b, err := d.Encode(nil)
		if err != nil {
			return a, err
		}
		a.text = string(b)
	case 'N':
		a.text = tempSchema.ReplaceAllString(a.text, "pg_temp")
	case 'E':
		var kept, place [][]byte
		for _, f := range bytes.Split(m.Body, []byte{0}) {
			if len(f) > 0 && (f[0] == 'F' || f[0] == 'L' || f[0] == 'R') {
				place = append(place, f)
				continue
			}
			kept = append(kept, f)
		}
		a.text, a.place = "E"+tempSchema.ReplaceAllString(string(bytes.Join(kept, []byte{0})), "pg_temp"), string(bytes.Join(place, []byte{0}))
	}
	return a, nil
}

// same tells whether the node's answer is the server's.
func same(node, server answer, withVault bool) bool {
	return node.text == server.text && (node.place == server.place || node.place == "" || withVault)
}
