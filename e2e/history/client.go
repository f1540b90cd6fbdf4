// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package history

import (
	"context"
	"math/rand/v2"
	"time"
)

// A client does one operation after the other. It has a session at its node,
// and another one for writing if the node takes no writes.
type client struct {
	r    *Run
	id   int
	rng  *rand.Rand
	home Node
	// writers are nodes that take writes, the one in use first.
	writers          []Node
	reading, writing *session
	failures         int         // connections refused or lost in a row
	known            map[int]int // version of each secret, as last seen
	rest             *restClient // nil: it speaks SQL
}

func someSeed() uint64 { return rand.Uint64() } //nolint:gosec // not for secrets

func newClient(r *Run, id int) *client {
	c := &client{
		r: r, id: id, known: map[int]int{}, home: r.spec.Nodes[id%len(r.spec.Nodes)],
		rng: rand.New(rand.NewPCG(r.spec.Seed, uint64(id))), //nolint:gosec // choices, which can be made again
	}
	if r.spec.Nodes[0].Token != "" && id%restEach == restEach-1 {
		c.rest = c.newREST()
	}
	reader := id >= r.spec.Clients-r.spec.Readers
	for _, n := range r.spec.Nodes {
		if n.Writes && !reader {
			c.writers = append(c.writers, n)
		}
	}
	return c
}

// run works until ctx ends. The first client makes the secrets before any other
// begins.
func (c *client) run(ctx context.Context) {
	defer func() {
		c.drop(ctx, c.reading)
		c.drop(ctx, c.writing)
	}()
	if c.id == 0 {
		for i := 0; i < c.r.spec.Names && ctx.Err() == nil; {
			if op := c.do(ctx, Create, i); op != nil && (op.Outcome == OK || op.SQLSTATE == "42710") {
				i++
			}
		}
		close(c.r.made)
	}
	select {
	case <-c.r.made:
	case <-ctx.Done():
	}
	for c.pause(ctx, c.r.spec.Pace) {
		c.do(ctx, c.kind(), c.rng.IntN(c.r.spec.Names))
	}
}

// kind is what to do next: mostly reads, every third a write.
func (c *client) kind() Kind {
	switch n := c.rng.IntN(20); {
	case n == 0:
		return Set
	case n < 13 || len(c.writers) == 0:
		return Read
	case n < 17:
		return Put
	case n < 18:
		return Update
	case n < 19:
		return Create
	}
	return Delete
}

// do does one thing with the i-th secret and writes it down; nil: there was no
// session to do it in.
func (c *client) do(ctx context.Context, kind Kind, i int) *Op {
	if kind == Delete && i%2 == 0 {
		kind = Put // that secret is never deleted, so that all its versions are there in the end
	}
	if c.rest != nil {
		return c.doREST(ctx, kind, i)
	}
	s := c.session(ctx, kind != Read && kind != Set)
	if s == nil {
		return nil
	}
	op := c.begin(s.node, s.id, kind)
	if kind != Set {
		op.Name = c.r.name(i)
	}
	if kind == Read && c.known[i] > 0 && c.rng.IntN(4) == 0 {
		op.Asked = 1 + c.rng.IntN(c.known[i])
	}
	s.perform(ctx, op)
	c.record(op)
	if op.Outcome == OK && op.Version > 0 {
		c.known[i] = op.Version
	}
	s.left--
	const readOnly = "25006" // of a server that is no primary any more
	if op.Outcome == Unknown || op.SQLSTATE == readOnly || s.conn.IsClosed() || s.left <= 0 {
		c.drop(ctx, s)
	}
	return op
}

// session is an open one for reading or writing; nil: it could not be had.
func (c *client) session(ctx context.Context, forWriting bool) *session {
	field, node := &c.reading, c.home
	if forWriting && !c.home.Writes {
		field, node = &c.writing, c.writers[0]
	}
	if *field != nil {
		return *field
	}
	if !c.pause(ctx, c.backoff()) {
		return nil
	}
	s := c.connect(ctx, node)
	if s == nil {
		c.failures++
		if len(c.writers) > 1 && field == &c.writing {
			c.writers = append(c.writers[1:], c.writers[0])
		}
		return nil
	}
	c.failures = 0
	*field = s
	return s
}

// backoff grows with the connections that failed, to a second.
func (c *client) backoff() time.Duration {
	const first, most = 10 * time.Millisecond, time.Second
	if c.failures == 0 {
		return 0
	}
	longest := min(first<<min(c.failures, 10), most)
	return longest/2 + time.Duration(c.rng.Int64N(int64(longest/2)))
}

// drop ends a session, nil included.
func (c *client) drop(ctx context.Context, s *session) {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = s.conn.Close(ctx) // it may be gone already
	switch s {
	case c.reading:
		c.reading = nil
	case c.writing:
		c.writing = nil
		c.writers = append(c.writers[1:], c.writers[0])
	}
}

const closeTimeout = 2 * time.Second

// begin is an operation that begins now.
func (c *client) begin(n Node, session int, kind Kind) *Op {
	op := &Op{Client: c.id, Node: n.Name, Session: session, Kind: kind}
	switch kind {
	case Put, Create:
		op.Value = c.r.once("value")
	case Update:
		op.Description = c.r.once("description")
	case Set:
		op.Set = c.settings()
	case Connect, Delete, Read:
	}
	op.Begin = c.r.log.Now()
	return op
}

func (c *client) record(op *Op) {
	op.End = c.r.log.Now()
	c.r.log.Append(*op)
}

// settings are some that nobody else has.
func (c *client) settings() *Settings {
	paths := []string{`public`, `"$user", public`, `"it's ""odd""", public`, `pg_catalog, public`}
	roles := append([]string{"none"}, c.r.spec.Roles...)
	return &Settings{
		Tenant: c.r.once("tenant"), Role: roles[c.rng.IntN(len(roles))], SearchPath: paths[c.rng.IntN(len(paths))],
	}
}

// pause waits; false: ctx has ended.
func (c *client) pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
