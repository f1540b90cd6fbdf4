// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"errors"
	"fmt"
)

// Error is a spool that cannot do what it should: a failed call of the system, or
// files that are not as they were left. It never holds a value, nor anything of a
// record.
type Error struct {
	Op     string // what failed: "write", "sync", "check", …
	Path   string // the file; empty: none
	Offset int64  // where in the file; negative: not at a place of it
	Err    error
}

func (e *Error) Error() string {
	s := "audit spool: " + e.Op
	if e.Path != "" {
		s += " " + e.Path
	}
	if e.Offset >= 0 {
		s += fmt.Sprintf(" at offset %d", e.Offset)
	}
	return s + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func failed(op, path string, err error) *Error { return &Error{op, path, -1, err} }

// What is behind an *Error besides errors of the system.
var (
	ErrClosed   = errors.New("the spool is closed")
	ErrLocked   = errors.New("another process uses this directory")
	ErrDamaged  = errors.New("damaged")                                         // not a torn end: nothing is cut
	ErrReplaced = errors.New("the file was deleted or replaced while in use")   // for good, until a restart
	ErrForked   = errors.New("the chain went on elsewhere from another record") // a restored or cloned node
	ErrGone     = errors.New("records that were not shipped are gone")
	ErrPanic    = errors.New("an internal error") // for good, until a restart
)

// damaged says what is wrong with a file.
func damaged(path string, offset int64, format string, args ...any) *Error {
	return &Error{"check", path, offset, fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)}
}
