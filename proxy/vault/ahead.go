// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// Wanted is a version of a secret, the current one if Version is 0.
type Wanted struct {
	Name    string
	Version int32
}

// number is a parameter: NULL is the current version.
func (w *Wanted) number() pgtype.Int4 { return pgtype.Int4{Int32: w.Version, Valid: w.Version != 0} }

// ahead is what came along with who asks for it. It counts only once the policy has
// been asked, as what is read later does.
type ahead struct {
	of        Wanted
	record    []byte
	created   time.Time
	kind      string
	forgotten uint64 // seenWrites' before it was read
}

// What sqlBearerOrLock and sqlNodeRead say, all but the lock as one value: the server
// stores what a function in FROM returns before it hands it on. Where the rules do not
// let read the secret the server does not look for it: no refusal takes longer for one
// that exists.
const (
	sqlTokenRead  = `SELECT t.r, CASE WHEN (t.r).role IS NULL THEN vault.lockout($4, NULL) END FROM (SELECT vault.token_read($1, $2, $3) r) t` //nolint:gosec // as sqlBearer
	nameTokenRead = "token_read"
)

// How its parameters, the last an address, and its columns travel.
var (
	tokenReadArgs    = []int16{pgx.BinaryFormatCode, pgx.BinaryFormatCode, pgx.BinaryFormatCode, pgx.TextFormatCode}
	tokenReadColumns = []int16{pgx.BinaryFormatCode}
)

// readsAhead says whether a record may come along with who a is: the extension has what
// it takes, and there are roles that read by such a request.
func (v *Vault) readsAhead(a *Access, want *Wanted) bool {
	return want != nil && v.Health().Status.AtLeast(8) && CheckName(want.Name) == nil && v.admit(a, audit.ActionRead) == nil
}

// bearerAhead is bearer with a record.
func (v *Vault) bearerAhead(ctx context.Context, a *Access, want *Wanted) (known bool, left time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	forgotten := v.seen.forgotten.Load()
	known, left, err = v.tokenRead(ctx, a, want)
	if err != nil && ctx.Err() == nil && brokenConnection(err) { // as in query
		v.store.rest.Reset()
		known, left, err = v.tokenRead(ctx, a, want)
	}
	if a.ahead != nil {
		a.ahead.forgotten = forgotten
	}
	return known, left, err
}

// tokenRead asks the local server. After an error a is as it was, and the statement
// will be prepared again.
func (v *Vault) tokenRead(ctx context.Context, a *Access, want *Wanted) (known bool, left time.Duration, err error) {
	conn, err := v.store.rest.Acquire(ctx)
	if err != nil {
		return false, 0, err
	}
	defer conn.Release()
	before := *a
	if known, left, err = tokenReadBy(ctx, conn.Conn(), a, want); err != nil {
		*a = before
		_ = conn.Conn().Deallocate(ctx, nameTokenRead) // it may have broken: then none is left
	}
	return known, left, err
}

// tokenReadBy asks by a connection, and does itself what pgx would do for any
// statement.
func tokenReadBy(ctx context.Context, conn *pgx.Conn, a *Access, want *Wanted) (known bool, left time.Duration, err error) {
	statement, err := conn.Prepare(ctx, nameTokenRead, sqlTokenRead)
	if err != nil {
		return false, 0, err
	}
	args := [][]byte{a.hash, []byte(want.Name), nil, []byte(networkOf(a.Addr).String())}
	if want.Version != 0 {
		args[2] = binary.BigEndian.AppendUint32(nil, uint32(want.Version)) //nolint:gosec // as it is sent
	}
	rows := conn.PgConn().ExecStatement(ctx, statement, args, tokenReadArgs, tokenReadColumns)
	for rows.NextRow() {
		if known, left, err = a.take(rows.Values(), want); err != nil {
			break
		}
	}
	if _, failed := rows.Close(); failed != nil {
		return false, 0, failed
	}
	return known, left, err
}

// take fills a in with what the server says, of which it keeps nothing.
func (a *Access) take(columns [][]byte, want *Wanted) (known bool, left time.Duration, err error) {
	if len(columns) != 2 {
		return false, 0, errRow
	}
	t, err := parseTokenRead(columns[0])
	if err != nil {
		return false, 0, err
	}
	if t.role == nil || t.admin == nil {
		locked := row{rest: columns[1]} // NULL: for no second
		return false, time.Duration(locked.number()) * time.Second, nil
	}
	if t.rules != nil {
		if a.rules, err = parseRules(t.rules); err != nil {
			return false, 0, err
		}
	}
	if a.token && t.token != nil {
		a.Name = string(t.token)
	}
	a.Role, a.admin = string(t.role), t.admin[0] != 0
	if t.record == nil || t.created == nil || t.kind == nil {
		return true, 0, nil
	}
	if created, finite := parseTime(t.created); finite {
		a.ahead = &ahead{of: *want, record: bytes.Clone(t.record), created: created, kind: string(t.kind)}
	}
	return true, 0, nil
}

// cameAlong returns what came along with a, if that is what it wants now and it shows
// what a is to see.
func (v *Vault) cameAlong(a *Access, want Wanted) *ahead {
	h := a.ahead
	if h == nil || h.of != want || a.after != (Position{}) || v.seen.get(a.Name) != (Position{}) || v.seen.forgotten.Load() != h.forgotten {
		return nil
	}
	return h
}
