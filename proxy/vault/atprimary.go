// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
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
	most   int32 // connections
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
	pool, err := s.newPool(at, m.most, writeLimit, nil)
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
// connection if its own broke. Of a statement that the connection has run before that
// shows only with the first row: one looks at it, and a list is the client's to ask for
// again.
func (v *Vault) query(ctx context.Context, q querier, sql string, args ...any) (pgx.Rows, error) {
	rows, err := q.Query(ctx, sql, args...)
	pool, again := q.(*pgxpool.Pool)
	if err != nil && again && ctx.Err() == nil && brokenConnection(err) {
		pool.Reset()
		rows, err = q.Query(ctx, sql, args...)
	}
	return rows, err
}

// one runs a statement that returns one row; false: none. Outside of a transaction it
// takes as long as store.text may: a server that stands still shall not cost a request
// all its time. As that it runs there once more if its connection broke.
func (v *Vault) one(ctx context.Context, q querier, into []any, sql string, args ...any) (bool, error) {
	pool, alone := q.(*pgxpool.Pool)
	if !alone {
		return firstRow(ctx, q, into, sql, args...)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	found, err := firstRow(ctx, q, into, sql, args...)
	if err != nil && ctx.Err() == nil && brokenConnection(err) {
		pool.Reset()
		found, err = firstRow(ctx, q, into, sql, args...)
	}
	return found, err
}

func firstRow(ctx context.Context, q querier, into []any, sql string, args ...any) (bool, error) {
	rows, err := q.Query(ctx, sql, args...)
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

// write runs work of a token's in one transaction at the primary, by what that server
// knows of the token's rights: before it looks for the name, so that no refusal tells of
// that, and once more before the commit, for work waits for the name's lock, and may for
// the KMS. Who writes the same name waits without a connection, and who writes many has
// only so many. The error is an *Error, or of work.
func (v *Vault) write(ctx context.Context, a *Access, action audit.Action, name string, work func(context.Context, *changing) error) error {
	if err := v.AuditReady(); err != nil {
		return err
	}
	done, err := v.turns.take(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	leave, err := v.places.take(ctx, a.Client(), name)
	if err != nil {
		return err
	}
	defer leave()
	may := func(ctx context.Context, q querier) error { return v.stillMay(ctx, q, a, action, name) }
	all := func(ctx context.Context, tx pgx.Tx) error {
		return v.change(ctx, tx, a, action, name, func(ctx context.Context, tx *changing) error {
			if err := work(ctx, tx); err != nil {
				return err
			}
			return may(ctx, tx)
		})
	}
	return v.transact(ctx, name, may, all, v.wroteBy(a))
}

// wroteBy remembers up to where a token has written, for its later reads, and tells it.
// It is also asked for who has left: where the place is not known the token's reads go to
// the primary until one of them has asked again, see learn.
func (v *Vault) wroteBy(a *Access) func(context.Context, querier, uint32) {
	return func(ctx context.Context, q querier, timeline uint32) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		var position string
		if found, err := v.one(ctx, q, []any{&position}, SQLPosition); err != nil || !found {
			position = ""
		}
		a.wrote(v, positionOf(timeline, position))
	}
}

// transact runs work in one transaction at the primary, which it makes sure of
// first: nothing is ever written to a server that another has replaced. Unless nil,
// before is asked on the same connection, and after is called when all was committed.
// The error is an *Error, or of work.
func (v *Vault) transact(ctx context.Context, name string, before func(context.Context, querier) error,
	work func(context.Context, pgx.Tx) error, after func(context.Context, querier, uint32),
) error {
	return v.transactBy(ctx, &v.atPrimary, name, before, work, after)
}

// byItself is transact for what a node does without being asked, and what waits for no
// name: it has connections of its own, which no client's requests can take.
func (v *Vault) byItself(ctx context.Context, name string, work func(context.Context, pgx.Tx) error) error {
	return v.transactBy(ctx, &v.itsOwn, name, nil, work, nil)
}

// itsOwnMost is how many connections these are at most.
const itsOwnMost = 3

func (v *Vault) transactBy(ctx context.Context, by *primaryPool, name string, before func(context.Context, querier) error,
	work func(context.Context, pgx.Tx) error, after func(context.Context, querier, uint32),
) error {
	p, err := v.AwaitPrimary(ctx, v.primaryWait)
	if err != nil {
		return v.noPrimary(ctx, name, err)
	}
	pool, err := by.to(v.store, p.Server) //nolint:contextcheck // it connects to nothing yet
	if err != nil {
		return v.noPrimary(ctx, name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	conn, timeline, err := v.confirmed(ctx, pool, p)
	switch {
	case errors.Is(err, errFull): // no word against the primary
		return crowded(name, err)
	case err != nil:
		v.doubt(ctx, p)
		return v.noPrimary(ctx, name, err)
	}
	defer conn.Release()
	if before != nil {
		if err := before(ctx, conn); err != nil {
			return v.asWriteError(ctx, p, name, err)
		}
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return v.writeError(ctx, p, name, err)
	}
	if err := work(ctx, tx); err != nil {
		rollBack(ctx, tx)
		return v.asWriteError(ctx, p, name, err)
	}
	if err := tx.Commit(ctx); err != nil {
		e := v.writeError(ctx, p, name, err)
		if e.Kind == KindPrimary || e.Kind == KindCanceled || e.Kind == KindServer {
			e.Kind, e.Msg, e.Hint = KindPrimary, "the primary was lost while it committed: the write may have been done", "Read before you write again."
		}
		return e
	}
	if after != nil {
		after(ctx, conn, timeline)
	}
	return nil
}

// rollBack also does it for who has left, but a server that stands still keeps nobody: its
// failure closes the connection, which is the same.
func rollBack(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	_ = tx.Rollback(ctx)
}

// confirmed returns a connection to the primary that has just said that it is it,
// and on which timeline.
func (v *Vault) confirmed(ctx context.Context, pool *pgxpool.Pool, p Primary) (*pgxpool.Conn, uint32, error) {
	var last error
	for range 2 {
		conn, err := acquire(ctx, pool)
		if err != nil {
			return nil, 0, err
		}
		var text string
		asking, answered := context.WithTimeout(ctx, storeTimeout)
		_, err = v.one(asking, conn, []any{&text}, SQLClaim)
		late := asking.Err() != nil
		answered()
		if timeline, ok := p.Confirm(text); err == nil && ok && timeline >= v.Timeline() {
			return conn, timeline, nil
		}
		conn.Release()
		if err == nil {
			return nil, 0, ErrNoPrimary
		}
		last = err
		if late || !brokenConnection(err) { // it stands still, or fails
			break
		}
		pool.Reset() // from before; nothing was sent that counts
	}
	return nil, 0, last
}

// errFull is that all connections of a pool are in use, for too long.
var errFull = errors.New("all connections to the primary are in use")

// acquire takes a connection, or waits for a place as long as ctx lasts; errFull: there
// was none. For a new one it waits as store.text does.
func acquire(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, error) {
	if s := pool.Stat(); s.AcquiredConns() >= s.MaxConns() {
		conn, err := pool.Acquire(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = errFull
		}
		return conn, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return pool.Acquire(ctx)
}

func (v *Vault) noPrimary(ctx context.Context, name string, err error) *Error {
	if errors.Is(context.Cause(ctx), context.Canceled) { // else it took too long
		return canceled(name, err)
	}
	return &Error{
		Kind: KindPrimary, Secret: name, Err: err,
		Msg:  "no primary takes this write now",
		Hint: fmt.Sprintf("Try again in a moment; node %q looks for the primary among VAULT_PG_HOSTS.", v.node),
	}
}

// asWriteError returns an *Error as it is, and says of any other what it means.
func (v *Vault) asWriteError(ctx context.Context, p Primary, name string, err error) error {
	var told *Error
	if errors.As(err, &told) {
		return err
	}
	return v.writeError(ctx, p, name, err)
}

// doubt is DoubtPrimary, unless it was the client who has left: whoever does that
// over and over would have every write look for the primary first.
func (v *Vault) doubt(ctx context.Context, p Primary) {
	if !errors.Is(context.Cause(ctx), context.Canceled) {
		v.DoubtPrimary(p)
	}
}

// writeError says what a statement at the primary failed with.
func (v *Vault) writeError(ctx context.Context, p Primary, name string, err error) *Error {
	var pg *pgconn.PgError
	switch {
	case !errors.As(err, &pg):
		v.doubt(ctx, p)
		return v.noPrimary(ctx, name, err)
	case pg.Code == "25006" || strings.HasPrefix(pg.Code, "57") && pg.Code != "57014":
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
		return canceled(name, err)
	case !errors.As(err, &pg):
	case pg.Code == "P0002":
		return missing(name)
	case pg.Code == "42710":
		return &Error{Kind: KindExists, Secret: name, Msg: "the secret exists already", Hint: "PUT gives it a new value."}
	case pg.Code == "55P03" || pg.Code == "40001" || pg.Code == "40P01":
		return busy(name, err)
	case pg.Code == "22021" || pg.Code == "22P05":
		return invalid(name, "a text has a character that the database cannot hold")
	case pg.Code == "22023": // the extension's own words, which quote no argument
		return &Error{Kind: KindInvalid, Secret: name, Err: err, Msg: pg.Message}
	}
	return v.serverError(err)
}
