// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// writeLimit bounds a statement at the primary: hyperion_vault.lock_wait, which
	// is half of it by default, is to be heard first.
	writeLimit = 10 * time.Second

	// writeTimeout bounds a whole write.
	writeTimeout = 20 * time.Second
)

// primaryPool is the service role's access to the server that is the primary.
type primaryPool struct {
	mu     sync.Mutex
	at     Server
	pool   *pgxpool.Pool // nil: none yet
	closed bool
}

var errClosed = errors.New("the vault is closed")

// to returns connections to a server, and lets go of those to another one.
func (m *primaryPool) to(s *store, at Server) (*pgxpool.Pool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errClosed
	}
	if m.pool != nil && m.at == at {
		return m.pool, nil
	}
	pool, err := s.newPool(at, s.most/2, writeLimit)
	if err != nil {
		return nil, err
	}
	if old := m.pool; old != nil {
		go old.Close() // waits for those who still use it
	}
	m.at, m.pool = at, pool
	return pool, nil
}

func (m *primaryPool) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	if m.pool != nil {
		m.pool.Close()
	}
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// query runs a statement that only reads; as store.text it runs once more on a new
// connection if its own broke.
func (v *Vault) query(ctx context.Context, q querier, sql string, args ...any) (pgx.Rows, error) {
	rows, err := q.Query(ctx, sql, args...)
	pool, again := q.(*pgxpool.Pool)
	if err != nil && again && ctx.Err() == nil && brokenConnection(err) {
		pool.Reset()
		rows, err = q.Query(ctx, sql, args...)
	}
	return rows, err
}

// one runs a statement that returns one row; false: none.
func (v *Vault) one(ctx context.Context, q querier, into []any, sql string, args ...any) (bool, error) {
	rows, err := v.query(ctx, q, sql, args...)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	found := rows.Next()
	if found {
		if err := rows.Scan(into...); err != nil {
			return false, err
		}
	}
	rows.Close()
	return found, rows.Err()
}

// write runs work in one transaction at the primary. Up to where it wrote is
// remembered for the token's later reads, and told. The error is an *Error, or of
// work.
func (v *Vault) write(ctx context.Context, a *Access, name string, work func(context.Context, pgx.Tx) error) error {
	return v.transact(ctx, name, work, func(ctx context.Context, conn *pgxpool.Conn, timeline uint32) {
		var position string
		if found, err := v.one(ctx, conn, []any{&position}, SQLPosition); err != nil || !found {
			position = "" // then no standby will do for a while
		}
		a.wrote(v, positionOf(timeline, position))
	})
}

// transact runs work in one transaction at the primary, which it makes sure of
// first: nothing is ever written to a server that another has replaced. done, unless
// nil, is called when that was committed. The error is an *Error, or of work.
func (v *Vault) transact(ctx context.Context, name string, work func(context.Context, pgx.Tx) error, done func(context.Context, *pgxpool.Conn, uint32)) error {
	p, err := v.AwaitPrimary(ctx, v.primaryWait)
	if err != nil {
		return v.noPrimary(ctx, name, err)
	}
	pool, err := v.atPrimary.to(v.store, p.Server) //nolint:contextcheck // it connects to nothing yet
	if err != nil {
		return v.noPrimary(ctx, name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	conn, timeline, err := v.confirmed(ctx, pool, p)
	if err != nil {
		v.DoubtPrimary(p)
		return v.noPrimary(ctx, name, err)
	}
	defer conn.Release()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return v.writeError(ctx, p, name, err)
	}
	if err := work(ctx, tx); err != nil {
		_ = tx.Rollback(context.WithoutCancel(ctx)) // its failure closes the connection, which is the same
		var told *Error
		if errors.As(err, &told) {
			return err
		}
		return v.writeError(ctx, p, name, err)
	}
	if err := tx.Commit(ctx); err != nil {
		e := v.writeError(ctx, p, name, err)
		if e.Kind == KindPrimary || e.Kind == KindCanceled || e.Kind == KindServer {
			e.Kind, e.Msg, e.Hint = KindPrimary, "the primary was lost while it committed: the write may have been done", "Read before you write again."
		}
		return e
	}
	if done != nil {
		done(ctx, conn, timeline)
	}
	return nil
}

// confirmed returns a connection to the primary that has just said that it is it,
// and on which timeline.
func (v *Vault) confirmed(ctx context.Context, pool *pgxpool.Pool, p Primary) (*pgxpool.Conn, uint32, error) {
	var last error
	for range 2 {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return nil, 0, err
		}
		var text string
		_, err = v.one(ctx, conn, []any{&text}, SQLClaim)
		if timeline, ok := p.Confirm(text); err == nil && ok && timeline >= v.Timeline() {
			return conn, timeline, nil
		}
		conn.Release()
		if err == nil {
			return nil, 0, ErrNoPrimary
		}
		last = err
		if !brokenConnection(err) {
			break
		}
		pool.Reset() // from before; nothing was sent that counts
	}
	return nil, 0, last
}

func (v *Vault) noPrimary(ctx context.Context, name string, err error) *Error {
	if ctx.Err() != nil {
		return &Error{Kind: KindCanceled, Secret: name, Msg: "canceling statement due to user request", Err: err}
	}
	return &Error{
		Kind: KindPrimary, Secret: name, Err: err,
		Msg:  "no primary takes this write now",
		Hint: fmt.Sprintf("Try again in a moment; node %q looks for the primary among VAULT_PG_HOSTS.", v.node),
	}
}

// writeError says what a statement at the primary failed with.
func (v *Vault) writeError(ctx context.Context, p Primary, name string, err error) *Error {
	var pg *pgconn.PgError
	switch {
	case !errors.As(err, &pg):
		v.DoubtPrimary(p)
		return v.noPrimary(ctx, name, err)
	case pg.Code == "25006" || pg.Code[:2] == "57" && pg.Code != "57014":
		v.DoubtPrimary(p)
		return v.noPrimary(ctx, name, err)
	}
	return v.restError(ctx, name, err)
}

// restError says what a statement of REST failed with, at whichever server.
func (v *Vault) restError(ctx context.Context, name string, err error) *Error {
	var pg *pgconn.PgError
	switch {
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled):
		return &Error{Kind: KindCanceled, Secret: name, Msg: "canceling statement due to user request", Err: err}
	case !errors.As(err, &pg):
	case pg.Code == "P0002":
		return missing(name)
	case pg.Code == "42710":
		return &Error{Kind: KindExists, Secret: name, Msg: "the secret exists already", Hint: "PUT gives it a new value."}
	case pg.Code == "55P03" || pg.Code == "40001" || pg.Code == "40P01":
		return &Error{Kind: KindBusy, Secret: name, Err: err, Msg: "another transaction is writing this secret", Hint: "Try again in a moment."}
	case pg.Code == "22023": // the extension's own words, which quote no argument
		return &Error{Kind: KindInvalid, Secret: name, Err: err, Msg: pg.Message}
	}
	return v.serverError(err)
}

func missing(name string) *Error {
	return &Error{Kind: KindMissing, Secret: name, Msg: "there is no such secret, or no such version any more"}
}
