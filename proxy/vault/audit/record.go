// SPDX-License-Identifier: GPL-3.0-or-later

// Package audit records every operation on secrets in this node's [Spool]:
// append-only files of records that are chained by hash, with heads of the chain
// that the node signs. A [Cursor] hands them out for shipping, [Evidence.Verify] finds
// what was done to them. No record ever holds a value.
//
// docs/AUDIT.md describes every byte.
package audit

import (
	"net/netip"
	"time"
)

// Face is the door through which an operation came.
type Face string

// The two faces of the vault, and what a node does of itself: it rotates, and says what
// became of its spool.
const (
	FaceSQL  Face = "sql"
	FaceREST Face = "rest"
	FaceNode Face = "node"
)

// Action is what was asked for.
type Action string

// The actions, named as in grants.
const (
	ActionRead   Action = "read"
	ActionCreate Action = "create"
	ActionUpdate Action = "update"
	ActionDelete Action = "delete"
	ActionRotate Action = "rotate"
	ActionVerify Action = "verify"
	ActionList   Action = "list"
)

// Other things that clients do.
const (
	ActionGrant     Action = "grant"     // Record.Secret is a role and a pattern
	ActionRevoke    Action = "revoke"    // as above
	ActionLogin     Action = "login"     // to the proxy, or a token that nobody has
	ActionTampering Action = "tampering" // a record was to be opened that is not genuine
)

// What administrators do by REST with roles and tokens; Record.Secret is then the
// role's or the token's name.
const (
	ActionRoleList    Action = "role_list"
	ActionRoleCreate  Action = "role_create"
	ActionRoleUpdate  Action = "role_update"
	ActionRoleDelete  Action = "role_delete"
	ActionTokenList   Action = "token_list"
	ActionTokenCreate Action = "token_create"
	ActionTokenRevoke Action = "token_revoke"
)

// What the node records of itself: FaceNode.
const (
	ActionStart Action = "start" // the spool was opened; Reason says how it was left
	ActionStop  Action = "stop"  // it was closed: nothing is missing
	ActionClock Action = "clock" // the clock was set; Reason says by how much
	ActionGap   Action = "gap"   // the vault has lost records that are not here any more; Reason says which
)

// ActionWithheld stands in a table in place of what was not to be shipped. No node
// appends it.
const ActionWithheld Action = "withheld"

// Outcome is how it ended, as far as this node knows.
type Outcome string

// The outcomes. OutcomeOK of a read may stand for a row that the client never
// received; there is no plaintext without such a record.
const (
	OutcomeOK        Outcome = "ok"
	OutcomeMismatch  Outcome = "mismatch" // verify: no live version has this value
	OutcomeDenied    Outcome = "denied"
	OutcomeLockedOut Outcome = "locked_out" // too many misses of verify, or unknown tokens
	OutcomeFailed    Outcome = "failed"
)

// Record is one operation on one secret. A field that is not known is zero.
//
// A text that a table could not hold is cleaned as it is appended: what is not
// UTF-8, and zero bytes, become U+FFFD, and what is longer than MaxText is cut and
// ends in an ellipsis. An operation is not left out because of a strange name.
type Record struct {
	At          time.Time  // to the microsecond; zero: when it is appended
	Actor       string     // who logged in: a PostgreSQL role, or a token's name
	SessionRole string     // the PostgreSQL role in whose name it ran
	Addr        netip.Addr // the socket's peer; zero: a unix socket
	Face        Face
	Database    string
	Action      Action
	Secret      string // the secret's name
	Version     int32
	Outcome     Outcome
	Direct      bool   // the statement's own text names a vault function
	Reason      string // why it was not OK: the rule that denied it, or a kind of error, never its text
	Change      int64  // the server's own note of a change: vault.changes.id
	Statement   uint64 // the fingerprint of the statement, without its literals; 0: none
}
