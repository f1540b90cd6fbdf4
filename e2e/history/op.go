// SPDX-License-Identifier: GPL-3.0-or-later

// Package history judges a cluster by what its clients saw. Clients (Start, with
// build tag e2e) write down every operation with its outcome; Check, which knows
// nothing of how the cluster works, looks through the record for what must never
// be: an acknowledged write that is gone, a version with two values, a session
// that goes back in time. A record is a file, too, and can be judged again
// without servers.
package history

import (
	"fmt"
	"strings"
	"time"
)

// A Kind is what an operation does.
type Kind string

// The kinds. Put and Create make a version; Update changes the description;
// Set changes the settings of the session and touches no secret.
const (
	Connect Kind = "connect"
	Set     Kind = "set"
	Put     Kind = "put"
	Create  Kind = "create"
	Update  Kind = "update"
	Delete  Kind = "delete"
	Read    Kind = "read"
)

// An Outcome is what the client knows of an operation when it ends.
type Outcome string

// OK: it was acknowledged. Failed: it has had no effect and will have none.
// Unknown: the connection was lost with the statement under way; it may have
// happened, may happen later, or never.
const (
	OK      Outcome = "ok"
	Failed  Outcome = "error"
	Unknown Outcome = "unknown"
)

// Settings are what a session has set and must find in each of its statements.
type Settings struct {
	Tenant     string `json:"tenant"` // app.tenant
	Role       string `json:"role"`
	SearchPath string `json:"search_path"`
}

// An Op is one operation of a client, as the client saw it.
type Op struct {
	// ID is the operation's number in the record, from 1.
	ID     int    `json:"id"`
	Client int    `json:"client"`
	Node   string `json:"node"`
	// Session is the connection's number. A session does one thing at a time.
	Session int `json:"session"`
	// REST: it was done by REST, where a session goes on until something was read, and
	// no description is told with a value.
	REST bool   `json:"rest,omitempty"`
	Kind Kind   `json:"kind"`
	Name string `json:"name,omitempty"`
	// Begin and End are times since the record's beginning, by a clock that
	// never goes back: of two operations the first is surely before the second
	// if it ended before the second began.
	Begin time.Duration `json:"begin"`
	End   time.Duration `json:"end"`

	Outcome  Outcome `json:"outcome"`
	SQLSTATE string  `json:"sqlstate,omitempty"`
	Error    string  `json:"error,omitempty"`

	// Asked is the version that a Read named; 0: the current one.
	Asked int `json:"asked,omitempty"`
	// Value is what a Put or Create stores, and what a Read returned. No value
	// is ever stored twice.
	Value string `json:"value,omitempty"`
	// Version is the one that a Put or Create made, or, of a Read, that
	// the server calls current in the same statement; 0: not told.
	Version int `json:"version,omitempty"`
	// Description is what an Update stores, never twice, and what a Read found.
	Description string `json:"description,omitempty"`
	// Missing: a Read or Delete found no such secret.
	Missing bool `json:"missing,omitempty"`

	// Set is what a Set asked for, Seen what any other statement found.
	Set  *Settings `json:"set,omitempty"`
	Seen *Settings `json:"seen,omitempty"`

	// Timeline and LSN are where the primary's log stood while a write ran:
	// its commit lies behind.
	Timeline int    `json:"timeline,omitempty"`
	LSN      uint64 `json:"lsn,omitempty"`
}

// makes: the operation makes a version.
func (o *Op) makes() bool { return o.Kind == Put || o.Kind == Create }

// Shown is the version whose value the operation stores or shows; 0: not told.
func (o *Op) Shown() int {
	if o.Kind == Read && o.Asked != 0 {
		return o.Asked
	}
	return o.Version
}

// latest is the time after which the operation cannot take effect any more.
func (o *Op) latest() time.Duration {
	if o.Outcome == Unknown {
		return never
	}
	return o.End
}

const never = time.Duration(1<<63 - 1)

// String is one line: who, when, what, and what came of it.
func (o *Op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "#%d [%s, %s] client %d session %d at %s: %s", o.ID, stamp(o.Begin), stamp(o.End), o.Client, o.Session, o.Node, o.Kind)
	if o.REST {
		b.WriteString(" by REST")
	}
	if o.Name != "" {
		fmt.Fprintf(&b, " %s", o.Name)
	}
	if o.Asked != 0 {
		fmt.Fprintf(&b, " version %d", o.Asked)
	}
	if o.Set != nil {
		fmt.Fprintf(&b, " %s", o.Set)
	}
	if o.makes() {
		fmt.Fprintf(&b, " %q", o.Value)
	}
	if o.Kind == Update {
		fmt.Fprintf(&b, " %q", o.Description)
	}
	fmt.Fprintf(&b, " -> %s", o.Outcome)
	switch {
	case o.Outcome != OK:
		fmt.Fprintf(&b, " %s %s", o.SQLSTATE, o.Error)
	case o.Missing:
		b.WriteString(" (missing)")
	case o.makes():
		fmt.Fprintf(&b, " version %d", o.Version)
	case o.Kind == Read:
		fmt.Fprintf(&b, " %q, current %d, description %q", o.Value, o.Version, o.Description)
	}
	if o.Seen != nil {
		fmt.Fprintf(&b, " under %s", o.Seen)
	}
	if o.LSN != 0 {
		fmt.Fprintf(&b, " at %d:%X/%X", o.Timeline, o.LSN>>32, uint32(o.LSN)) //nolint:gosec // the lower half is meant
	}
	return b.String()
}

func stamp(d time.Duration) string { return fmt.Sprintf("%.3fs", d.Seconds()) }

func (s *Settings) String() string {
	return fmt.Sprintf("{app.tenant %q, role %q, search_path %q}", s.Tenant, s.Role, s.SearchPath)
}
