// SPDX-License-Identifier: GPL-3.0-or-later

// Package wire frames the PostgreSQL protocol, version 3: it walks message
// headers in a reused buffer, bounds every length before it allocates, and
// hands out runs of bytes that nobody needs to look at. It knows no state; that
// is the session's. PostgreSQL manual, chapter "Frontend/Backend Protocol".
package wire

// Message types that a client sends.
const (
	Bind         = 'B'
	Close        = 'C'
	CopyData     = 'd' // either direction
	CopyDone     = 'c' // either direction
	CopyFail     = 'f'
	Describe     = 'D'
	Execute      = 'E'
	Flush        = 'H'
	FunctionCall = 'F'
	Parse        = 'P'
	Password     = 'p' // and SASL responses
	Query        = 'Q'
	Sync         = 'S'
	Terminate    = 'X'
)

// Message types that a server sends.
const (
	Authentication       = 'R'
	BackendKeyData       = 'K'
	BindComplete         = '2'
	CloseComplete        = '3'
	CommandComplete      = 'C'
	CopyInResponse       = 'G'
	CopyOutResponse      = 'H'
	DataRow              = 'D'
	EmptyQueryResponse   = 'I'
	ErrorResponse        = 'E'
	FunctionCallResponse = 'V'
	NegotiateVersion     = 'v'
	NoData               = 'n'
	NoticeResponse       = 'N'
	Notification         = 'A'
	ParameterDescription = 't'
	ParameterStatus      = 'S'
	ParseComplete        = '1'
	PortalSuspended      = 's'
	ReadyForQuery        = 'Z'
	RowDescription       = 'T'
)

// Transaction states in ReadyForQuery.
const (
	Idle     = 'I'
	InBlock  = 'T'
	InFailed = 'E'
)

// The codes that take the place of a protocol version in a first packet.
const (
	CodeCancel = 80877102
	CodeSSL    = 80877103
	CodeGSSENC = 80877104
)

// Protocol versions that we speak with clients.
const (
	Version30 = 3 << 16
	Version32 = 3<<16 | 2
)

// OIDs of built-in types that the node's own messages name.
const (
	OIDInt4 = 23
	OIDText = 25
)
