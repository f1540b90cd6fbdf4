// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package history

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A Node is an address that clients connect to.
type Node struct {
	Name, DSN string
	// REST is its address for REST, with http:// in front, and Token what clients
	// send there; empty: all clients speak SQL.
	REST, Token string
	// Writes: it takes writes, being the primary's or one that routes them.
	Writes bool
}

// A Spec says who the clients are and what they expect.
type Spec struct {
	// Nodes are where clients connect, one after the other. A client reads at
	// its node, and writes there, in the same session, if the node takes writes;
	// else it writes in another session at one that does. Of several it tries
	// the next when one fails it.
	Nodes   []Node
	Clients int
	// Readers are how many of the clients never write: the last ones.
	Readers int
	// Prefix is that of the secrets' names, and Names how many they are; 0: 8.
	// Those with an odd number are deleted at times.
	Prefix string
	Names  int
	// Roles are what sessions SET ROLE to, beside none. Each, and the clients'
	// own, must have all rights on the secrets.
	Roles []string
	// Pace is the time between two operations of a client; Lifetime how many
	// operations a session lives, 0: 60.
	Pace     time.Duration
	Lifetime int
	// Across: clients expect to read what they wrote in any session of theirs,
	// not only in the same one.
	Across bool
	// Patience is the time within which each operation must be answered, but by REST
	// RESTPatience; 0: DefaultPatience.
	Patience time.Duration
	// Log is the record to write; nil: one in memory.
	Log *Log
	// Seed decides what clients do, if not when; 0: some seed, which Say is told.
	Seed uint64
	Say  func(format string, args ...any)
}

const (
	defaultNames    = 8
	defaultLifetime = 60
)

// A Run is clients at work.
type Run struct {
	spec     Spec
	log      *Log
	stop     context.CancelFunc
	wg       sync.WaitGroup
	sessions atomic.Int64
	values   atomic.Int64
	// made is closed when all secrets are there.
	made chan struct{}
}

// Start lets clients work until Stop, or the end of ctx.
func Start(ctx context.Context, spec Spec) *Run {
	if spec.Names == 0 {
		spec.Names = defaultNames
	}
	if spec.Lifetime == 0 {
		spec.Lifetime = defaultLifetime
	}
	if spec.Patience == 0 {
		spec.Patience = DefaultPatience
	}
	if spec.Log == nil {
		spec.Log = NewLog()
	}
	if spec.Seed == 0 {
		spec.Seed = someSeed()
	}
	if spec.Say != nil {
		spec.Say("history: %d clients, seed %d", spec.Clients, spec.Seed)
	}
	ctx, stop := context.WithCancel(ctx)
	r := &Run{spec: spec, log: spec.Log, stop: stop, made: make(chan struct{})}
	for i := range spec.Clients {
		c := newClient(r, i)
		r.wg.Go(func() { c.run(ctx) })
	}
	return r
}

// Stop lets each client finish what it is at and returns when all have.
func (r *Run) Stop() {
	r.stop()
	r.wg.Wait()
}

// Ops is the record so far.
func (r *Run) Ops() []Op { return r.log.Ops() }

// Rules are those by which to judge the record. What was lost or cut off is
// known to whoever did it, who adds it.
func (r *Run) Rules() Rules { return Rules{Patience: r.spec.Patience, Across: r.spec.Across} }

// Check judges the record, which must not grow any more.
func (r *Run) Check(rules Rules, final Final) *Report { return r.log.Check(rules, final) }

// name is the i-th secret's.
func (r *Run) name(i int) string { return fmt.Sprintf("%s/%d", r.spec.Prefix, i) }

// once is a text that is stored once.
func (r *Run) once(what string) string {
	return fmt.Sprintf("%s %d of run %x", what, r.values.Add(1), r.spec.Seed)
}
