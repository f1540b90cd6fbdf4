// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"time"

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
	record    []byte // nil: nothing came
	created   pgtype.Timestamptz
	kind      pgtype.Text
	forgotten uint64 // seenWrites' before it was read
}

// sqlBearerAhead is sqlBearerOrLock with what sqlNodeRead says. Where the rules do not
// let read the secret the server does not look for it: no refusal takes longer for one
// that exists.
const sqlBearerAhead = `SELECT r.token, r.role, r.is_admin, r.rules, CASE WHEN r.role IS NULL THEN vault.lockout($2, NULL) END, r.record, r.created_at, r.kind FROM vault.token_read($1, $3, $4) r` //nolint:gosec // as sqlBearer

// readsAhead says whether a record may come along with who a is: the extension has what
// it takes, and there are roles that read by such a request.
func (v *Vault) readsAhead(a *Access, want *Wanted) bool {
	return want != nil && v.Health().Status.AtLeast(8) && CheckName(want.Name) == nil && v.admit(a, audit.ActionRead) == nil
}

// bearerAhead is bearer with a record.
func (v *Vault) bearerAhead(ctx context.Context, a *Access, want *Wanted) (known bool, left time.Duration, err error) {
	h := &ahead{of: *want, forgotten: v.seen.forgotten.Load()}
	args := []any{a.hash, networkOf(a.Addr).String(), want.Name, want.number()}
	known, left, err = v.bearer(ctx, v.store.rest, a, sqlBearerAhead, args, &h.record, &h.created, &h.kind)
	if known && h.record != nil && h.created.Valid && h.created.InfinityModifier == pgtype.Finite && h.kind.Valid {
		a.ahead = h
	}
	return known, left, err
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
