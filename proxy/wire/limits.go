// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import "fmt"

// Bounds on what a peer may announce. They are PostgreSQL's own (postgres.c
// SocketBackend, libpq.h, backend_startup.c) unless a comment says otherwise.
const (
	// HeaderSize is the type byte and the four length bytes.
	HeaderSize = 5
	// MaxStartup bounds a startup packet behind its length word.
	MaxStartup = 10000
	// MaxSmall bounds the length word of every message that carries no data
	// (PQ_SMALL_MESSAGE_LIMIT).
	MaxSmall = 10000
	// MaxLarge bounds every other length word (PQ_LARGE_MESSAGE_LIMIT).
	MaxLarge = 0x3FFFFFFE
	// MaxSASL bounds a SASL message before log-in (PG_MAX_SASL_MESSAGE_LENGTH).
	MaxSASL = 1024
	// MaxRowDescription is what 1,664 columns (MaxTupleAttributeNumber) with
	// names of 63 bytes can take, doubled for servers with larger limits.
	MaxRowDescription = 1664 * (64 + 18) * 2
	// MaxLogin bounds a server's message while the node logs in to it, before
	// the relay's own bounds hold: far above any error, notice or parameter.
	MaxLogin = 1 << 20
	// BufferSize is the size of a pooled relay buffer: large enough to carry a
	// whole round of pipelined messages, small enough for ten thousand sessions.
	BufferSize = 32 << 10
)

// A FrameError is a violation of the protocol's framing. The connection cannot
// be used any more: message boundaries are lost.
type FrameError struct {
	Type byte // the message's type byte
	Size int  // the length that it announced
}

func (e *FrameError) Error() string {
	return fmt.Sprintf("message type %q cannot have length %d", e.Type, e.Size)
}

// UnknownTypeError is a message type that the protocol does not have.
type UnknownTypeError struct{ Type byte }

func (e *UnknownTypeError) Error() string {
	return fmt.Sprintf("invalid frontend message type %d", e.Type)
}

// clientLimit is the largest length word that a client's message may have, by
// type; 0 means that there is no such type.
var clientLimit = [256]int{
	Query: MaxLarge, Parse: MaxLarge, Bind: MaxLarge, FunctionCall: MaxLarge, CopyData: MaxLarge,
	Execute: MaxSmall, Describe: MaxSmall, Close: MaxSmall, Flush: MaxSmall, Sync: MaxSmall,
	Terminate: MaxSmall, CopyDone: MaxSmall, CopyFail: MaxSmall,
	Password: 65535, // PG_MAX_AUTH_TOKEN_LENGTH
}

// checkClient bounds a client's header.
func checkClient(typ byte, body int) error {
	switch limit := clientLimit[typ]; {
	case limit == 0:
		return &UnknownTypeError{typ}
	case body < 0 || body+4 > limit:
		return &FrameError{typ, body + 4}
	}
	return nil
}

// checkServer bounds a server's header: any type passes, so that a newer
// server's messages do.
func checkServer(typ byte, body int) error {
	if body < 0 {
		return &FrameError{typ, body + 4}
	}
	return nil
}
