// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

const (
	// seenWait is how long a read waits for the local server to show what it is to
	// see; then it is done at the primary.
	seenWait  = 300 * time.Millisecond
	seenEvery = 10 * time.Millisecond

	// maxSeen bounds for how many tokens a node remembers what they wrote.
	maxSeen = 4096

	// movedWait is how long a read waits for its turn at the primary.
	movedWait = 2 * time.Second
)

// seenWrites remembers up to where of the WAL each token has written through this
// node.
type seenWrites struct {
	mu        sync.Mutex
	by        map[string]Position
	forgotten atomic.Uint64
}

func (s *seenWrites) note(who string, p Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = map[string]Position{}
	}
	old, known := s.by[who]
	if known && p.before(old) {
		return // two writes at once: the one that came first asked last
	}
	if !known && len(s.by) >= maxSeen {
		for other := range s.by { // some token's reads may be behind its writes then
			delete(s.by, other)
			break
		}
	}
	s.by[who] = p
}

// get returns the zero Position for who has written nothing.
func (s *seenWrites) get(who string) Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by[who]
}

// forget drops what the local server shows by now, if nothing came to it.
func (s *seenWrites) forget(who string, p Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by[who] == p {
		delete(s.by, who)
		s.forgotten.Add(1)
	}
}

// replace is for a position that was not known, if nothing came to it.
func (s *seenWrites) replace(who string, old, now Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by[who] == old {
		s.by[who] = now
	}
}

// ReadAfter makes the reads of this access see what is before a position, whoever
// wrote that.
func (a *Access) ReadAfter(p Position) { a.after = p }

// OnWrite has f called with the position up to which each write of this access went.
func (a *Access) OnWrite(f func(Position)) { a.onWrite = f }

func (a *Access) wrote(v *Vault, p Position) {
	v.seen.note(a.Name, p)
	if a.onWrite != nil {
		a.onWrite(p)
	}
}

// reader returns where to read for a, who is to see what its token has written here,
// and what is before the position that it sent: at the local server as soon as that
// shows it, else at the primary. The Actor says so. A local server that was replaced as
// the primary is not read, whatever it shows. Call done after reading, before anything
// else is waited for, and defer it as well: a turn that a panic kept would be gone. It may
// be called again.
func (v *Vault) reader(ctx context.Context, a *Access) (q *pgxpool.Pool, as Actor, done func(), err error) {
	seen := v.seen.get(a.Name)
	want := seen
	if want.before(a.after) {
		want = a.after
	}
	replaced := v.checkReplaced()
	switch {
	case replaced != nil && want == (Position{}):
		return nil, a.Actor, nil, replaced
	case replaced != nil:
		return v.atThePrimary(ctx, a, want)
	case want == (Position{}):
		return v.store.rest, a.Actor, func() {}, nil
	}
	shown, err := v.awaitShown(ctx, want)
	if err != nil {
		return nil, a.Actor, nil, err
	}
	if shown {
		v.seen.forget(a.Name, seen)
		return v.store.rest, a.Actor, func() {}, nil
	}
	return v.atThePrimary(ctx, a, want)
}

// readerFor is reader for an action, on a name if it has one. Where the primary is asked,
// it is asked who bears the token, too: the local server may be behind for as long as it
// likes, and token or right gone meanwhile.
func (v *Vault) readerFor(ctx context.Context, a *Access, action audit.Action, name string) (q *pgxpool.Pool, as Actor, done func(), err error) {
	q, as, over, err := v.reader(ctx, a)
	if err != nil || !as.Moved {
		return q, as, over, err
	}
	defer func() { // also after a panic, which would keep the turn
		if done == nil {
			over()
		}
	}()
	known, _, err := v.bearer(ctx, q, a, sqlBearer, []any{a.hash})
	switch {
	case err != nil:
		err = v.behind(err)
	case !known:
		err = v.refuse(ctx, a, action, name, notKnown())
	case name != "":
		err = v.authorize(ctx, a, action, name)
	}
	if err != nil {
		return nil, as, nil, err
	}
	as = a.Actor
	as.Moved = true
	return q, as, over, nil
}

// awaitShown waits until the local server shows a position, for a moment. One asks
// the server for all who wait.
func (v *Vault) awaitShown(ctx context.Context, p Position) (bool, error) {
	start := time.Now()
	for deadline := start.Add(seenWait); ; {
		r := v.replay.Load()
		if !r.after(start) || !r.shown(p) {
			r = v.askLocal(ctx, start)
		}
		switch {
		case r.after(start) && r.shown(p):
			return true, nil
		case time.Now().After(deadline):
			return false, nil
		}
		select {
		case <-time.After(seenEvery):
		case <-ctx.Done():
			return false, v.noPrimary(ctx, "", ctx.Err())
		}
	}
}

// atThePrimary is reader for what the local server does not show. Such reads have
// half of the connections, so that they keep no write waiting. A position of a
// timeline that no primary is on yet, as far as this node knows, is not to be had.
func (v *Vault) atThePrimary(ctx context.Context, a *Access, want Position) (q *pgxpool.Pool, as Actor, done func(), err error) {
	select {
	case v.moved <- struct{}{}:
	case <-time.After(movedWait):
		return nil, a.Actor, nil, v.behind(errTurn)
	case <-ctx.Done():
		return nil, a.Actor, nil, v.noPrimary(ctx, "", ctx.Err())
	}
	over := sync.OnceFunc(func() { <-v.moved })
	defer func() { // also after a panic, which would keep the turn
		if done == nil {
			over()
		}
	}()
	p, err := v.Primary(ctx)
	if err == nil && p.Timeline < want.timeline {
		err = errTimeline
	}
	var pool *pgxpool.Pool
	if err == nil {
		pool, err = v.atPrimary.to(v.store, p.Server) //nolint:contextcheck // it connects to nothing yet
	}
	if err != nil {
		return nil, a.Actor, nil, v.behind(err)
	}
	v.learn(ctx, pool, p, a.Name)
	moved := a.Actor
	moved.Moved = true
	return pool, moved, over, nil
}

// learn asks the primary where it is, for a token of which it is not known up to where it
// has written: else all its reads would go there, for as long as the node runs.
func (v *Vault) learn(ctx context.Context, pool *pgxpool.Pool, p Primary, who string) {
	old := v.seen.get(who)
	if old.lsn != math.MaxUint64 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	conn, timeline, err := v.confirmed(ctx, pool, p)
	if err != nil {
		return // the next read does
	}
	defer conn.Release()
	var position string
	if found, err := v.one(ctx, conn, []any{&position}, SQLPosition); err == nil && found {
		v.seen.replace(who, old, positionOf(timeline, position))
	}
}

var (
	errTurn     = errors.New("as many as may are reading at the primary")
	errTimeline = errors.New("no primary of that timeline is known")
)

func (v *Vault) behind(err error) *Error {
	return &Error{
		Kind: KindStale, Wait: time.Second, Err: err,
		Msg:  fmt.Sprintf("the server beside node %q does not show yet what this read is to see, nor could the primary be asked", v.node),
		Hint: "Try again in a moment.",
	}
}
