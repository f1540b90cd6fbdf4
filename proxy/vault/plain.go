// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"fmt"
	"log/slog"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
)

const redacted = "[redacted]"

// Plain is the value of one secret version. It cannot be printed, logged or
// marshalled: each of these gives "[redacted]". Its owner zeroes it as soon as
// the bytes have been sent; copies share the bytes. Zero value: empty.
type Plain struct{ b []byte }

// Bytes returns the value itself, valid until Zero. The caller makes no copy
// that it does not zero.
func (p Plain) Bytes() []byte { return p.b }

// Len returns the value's length in bytes.
func (p Plain) Len() int { return len(p.b) }

// Zero overwrites the value.
func (p *Plain) Zero() {
	erase.Zero(p.b)
	p.b = nil
}

// ZeroAll overwrites every value of a buffer.
func ZeroAll(plains []Plain) {
	for i := range plains {
		plains[i].Zero()
	}
}

// String returns "[redacted]".
func (p Plain) String() string { return redacted }

// Format prints "[redacted]" for every verb.
func (p Plain) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText returns "[redacted]"; encoding/json uses it too.
func (p Plain) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalBinary returns "[redacted]"; encoding/gob uses it.
func (p Plain) MarshalBinary() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns "[redacted]".
func (p Plain) LogValue() slog.Value { return slog.StringValue(redacted) }
