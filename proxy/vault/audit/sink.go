// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import "context"

// Sink takes records. Implementations are safe for concurrent use.
type Sink interface {
	// Append takes the records of one outgoing buffer, all or none, and
	// returns when they are as safe as the sink promises. After an error
	// nothing of that buffer may reach the client. The slice is the caller's
	// again when Append returns: a sink that keeps records copies them.
	Append(ctx context.Context, records []Record) error

	// Ready says, without waiting, why Append would fail now; nil: it need not.
	Ready() error
}

// Discard is a sink that drops everything.
type Discard struct{}

// Append drops the records.
func (Discard) Append(context.Context, []Record) error { return nil }

// Ready returns nil.
func (Discard) Ready() error { return nil }
