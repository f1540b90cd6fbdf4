// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// Why audit records are not shipped.
const (
	shipForked    = "forked"    // another node writes under this one's name
	shipConflict  = "conflict"  // somebody has written a row in this node's name
	shipSpool     = "spool"     // the node's own files
	shipExtension = "extension" // it is older than 1.10
	shipPrimary   = "primary"   // none takes writes
	shipServer    = "server"    // that refused
	shipMoved     = "moved"     // the vault does not stand where it was left: once is well
	shipInternal  = "internal"  // a fault of this program
)

// shipCause is what an error of shipping is counted as; empty: none.
func shipCause(err error) string {
	var spool *audit.Error
	switch {
	case err == nil:
		return ""
	case errors.Is(err, audit.ErrForked):
		return shipForked
	case errors.Is(err, errConflict):
		return shipConflict
	case errors.As(err, &spool):
		return shipSpool
	case errors.Is(err, errOldExtension):
		return shipExtension
	case errors.Is(err, errPanic):
		return shipInternal
	case errors.Is(err, errElsewhere):
		return shipMoved
	case KindOf(err) == KindPrimary:
		return shipPrimary
	}
	return shipServer
}

// Shipping is how the shipping of audit records goes.
type Shipping struct {
	Err    error         // why none is shipped now; nil: they are
	Alarm  bool          // somebody has to look: it does not heal by itself
	Waited time.Duration // for how long some have been waiting, since this node was started
}

// Shipping returns what was seen last. It does no I/O.
func (v *Vault) Shipping() Shipping { return v.shipping.read(time.Now()) }

// shipState is what others see of a shipper. The zero value is one that has not begun.
type shipState struct {
	mu    sync.Mutex
	err   error
	cause string
	since time.Time // since when records have been waiting; zero: none are
}

func (s *shipState) read(now time.Time) Shipping {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Shipping{Err: s.err}
	switch s.cause {
	case shipForked, shipConflict, shipSpool, shipInternal:
		out.Alarm = true
	}
	if !s.since.IsZero() {
		out.Waited = now.Sub(s.since)
	}
	return out
}

// wait notes whether there is something to ship.
func (s *shipState) wait(waiting bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !waiting:
		s.since = time.Time{}
	case s.since.IsZero():
		s.since = time.Now()
	}
}

// set keeps how a round ended, and returns how the one before did.
func (s *shipState) set(err error, cause string) (before string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before = s.cause
	s.err, s.cause = err, cause
	if err == nil {
		s.since = time.Time{} // some have arrived
	}
	return before
}

// note keeps how a round ended, and logs it once.
func (s *shipper) note(ctx context.Context, err error) {
	cause := shipCause(err)
	before := s.state.set(err, cause)
	if err != nil {
		s.failed(cause)
	}
	switch {
	case cause == before:
	case err == nil:
		s.log.InfoContext(ctx, "audit records are shipped")
	default:
		level := slog.LevelWarn
		if s.state.read(time.Now()).Alarm {
			level = slog.LevelError
		}
		s.log.LogAttrs(ctx, level, "audit records are not shipped now", append([]slog.Attr{slog.String("cause", cause)}, errAttrs(err)...)...)
	}
}
