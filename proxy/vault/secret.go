// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// Format says what a value is.
type Format = envelope.ValueFormat

// The formats of a value.
const (
	FormatText     = envelope.FormatText     // valid UTF-8
	FormatBytes    = envelope.FormatBytes    // any bytes
	FormatUserpass = envelope.FormatUserpass // a user name and a password
)

// Secret is one version of a secret, opened. Its owner zeroes the value.
type Secret struct {
	Name      string
	Kind      string // manual or automatic
	Format    Format
	Version   int32
	CreatedAt time.Time // of the version
	Value     Plain
}

// Meta is what is known of a secret without opening it. Times without an end and
// intervals that are not set are nil.
type Meta struct {
	Name             string
	Kind             string // manual or automatic
	Format           string // opaque or userpass
	Description      *string
	Version          int32
	RotationInterval *int64 // seconds
	GracePeriod      *int64 // seconds
	NextRotationAt   *time.Time
	AllowedCIDRs     []string
	CreatedAt        time.Time
	UpdatedAt        time.Time
}

// VersionMeta is what is known of one version.
type VersionMeta struct {
	Version   int32
	Stage     string // current or previous
	CreatedAt time.Time
	ExpiresAt *time.Time // nil: current
}

// Every statement of REST that only reads.
const (
	sqlNodeRead     = `SELECT r.record, r.version, r.created_at, r.kind FROM vault.node_read($1, $2, $3) r WHERE r.record IS NOT NULL`
	sqlNodeVersions = `SELECT c.version, c.stage, c.created_at, c.expires_at FROM vault.node_candidates($1, $2) c`
	sqlNodeRecords  = `SELECT c.record FROM vault.node_candidates($1, $2) c`

	// Of a date that RFC 3339 cannot say, as a superuser may have set it, nothing.
	sqlNodeList = `SELECT l.name, l.kind, l.format, l.description, l.current_version, l.rotation_interval_secs, l.grace_period_secs,
 CASE WHEN l.next_rotation_at >= '0001-01-01 00:00:00+00' AND l.next_rotation_at < '10000-01-01 00:00:00+00' THEN l.next_rotation_at END,
 l.allowed_cidrs, l.created_at, l.updated_at FROM vault.node_list($1, $2, $3) l`
)

// Read opens a version of a secret, the current one if version is 0, in the way the
// SQL face does: address, allowed_cidrs, audit. Errors are *Error.
func (v *Vault) Read(ctx context.Context, a *Access, name string, version int32) (s Secret, err error) {
	defer v.ended(ctx, a, audit.ActionRead, name, &err)
	if err := CheckName(name); err != nil {
		return Secret{}, err
	}
	if err := v.authorize(ctx, a, audit.ActionRead, name); err != nil {
		return Secret{}, err
	}
	want := Wanted{name, version}
	h := v.cameAlong(a, want)
	a.ahead = nil // it is not held beside what is opened of it
	if h != nil {
		n := len(h.record)
		if a.fits(n) {
			return v.openRead(ctx, a.Actor, h.record, Secret{Name: name, Kind: h.kind, CreatedAt: h.created})
		}
		if err := v.awaitRoom(ctx, a, audit.ActionRead, name, n); err != nil {
			return Secret{}, err
		}
	}
	return v.readNow(ctx, a, want)
}

// readNow is Read for what did not come along.
func (v *Vault) readNow(ctx context.Context, a *Access, want Wanted) (s Secret, err error) {
	name := want.Name
	var record []byte
	var actor Actor
	err = v.reading(ctx, a, audit.ActionRead, name, func(q *pgxpool.Pool, as Actor) error {
		s, actor = Secret{Name: name}, as
		found, err := v.one(ctx, q, []any{&record, &s.Version, &s.CreatedAt, &s.Kind}, sqlNodeRead, name, want.number(), a.Name)
		switch {
		case err != nil:
			return v.restError(ctx, name, err)
		case !found:
			return v.refuse(ctx, a, audit.ActionRead, name, missing(name))
		}
		if n := len(record); !a.fits(n) {
			record = nil
			return noRoom(n)
		}
		return nil
	})
	if err != nil {
		return Secret{}, err
	}
	return v.openRead(ctx, actor, record, s)
}

// openRead opens the record of a secret.
func (v *Vault) openRead(ctx context.Context, actor Actor, record []byte, s Secret) (Secret, error) {
	o := newOpening(1)
	o.name = s.Name
	defer o.release()
	plains, err := v.openBuffer(ctx, actor, o, true, [][]byte{record}, true)
	if err != nil {
		return Secret{}, err
	}
	// What is sealed counts, not what stands beside it.
	s.Format, s.Version, s.Value = o.records[0].Format, o.records[0].Version, plains[0]
	return s, nil
}

// Versions returns the versions that can be read now, newest first. Errors are
// *Error.
func (v *Vault) Versions(ctx context.Context, a *Access, name string) (list []VersionMeta, err error) {
	defer v.ended(ctx, a, audit.ActionList, name, &err)
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if err := v.authorize(ctx, a, audit.ActionList, name); err != nil {
		return nil, err
	}
	q, _, done, err := v.readerFor(ctx, a, audit.ActionList, name)
	if err != nil {
		return nil, err
	}
	defer done()
	rows, err := v.query(ctx, q, sqlNodeVersions, name, a.Name)
	if err != nil {
		return nil, v.restError(ctx, name, err)
	}
	list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[VersionMeta])
	if err != nil {
		return nil, v.restError(ctx, name, err)
	}
	if len(list) == 0 {
		return nil, missing(name)
	}
	if err := v.note(ctx, a, audit.ActionList, name); err != nil {
		return nil, err
	}
	return list, nil
}

// listPage is how many rows are fetched at a time.
const listPage = 500

// List returns metadata of at most limit secrets whose names begin with prefix and
// come after a name, in byte order: those that the role may list. more: there are
// others behind them. Errors are *Error.
func (v *Vault) List(ctx context.Context, a *Access, prefix, after string, limit int) (list []Meta, more bool, err error) {
	defer v.ended(ctx, a, audit.ActionList, prefix, &err)
	if HoldsToken(prefix) || HoldsToken(after) {
		return nil, false, invalidName(errNameToken)
	}
	if !a.token {
		return nil, false, v.authorize(ctx, a, audit.ActionList, "")
	}
	q, _, done, err := v.readerFor(ctx, a, audit.ActionList, "")
	if err != nil {
		return nil, false, err
	}
	defer done()
	asked := prefix
	if !validPattern(prefix + "*") {
		asked = "" // nothing begins so: it may be a value in the wrong place
	}
	if err := v.note(ctx, a, audit.ActionList, asked); err != nil {
		return nil, false, err
	}
	for _, s := range a.listed(prefix) {
		page := listPage
		if s.exact {
			page = 1 // itself, if it is there
		}
		for from := after; !s.before(from); {
			rows, err := v.query(ctx, q, sqlNodeList, s.begin, from, page)
			if err != nil {
				return nil, false, v.restError(ctx, "", err)
			}
			found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Meta])
			if err != nil {
				return nil, false, v.restError(ctx, "", err)
			}
			for i := range found {
				switch {
				case s.exact && found[i].Name != s.begin: // one behind it, which may be another span's
				case !a.may(audit.ActionList, found[i].Name):
				case len(list) == limit:
					return list, true, nil
				default:
					list = append(list, found[i])
				}
			}
			if s.exact || len(found) < page {
				break
			}
			from = found[len(found)-1].Name
		}
	}
	return list, false, nil
}

// Verify says which version of a secret, current or in grace, has the candidate as
// its value (of a userpass: as its password), or 0; a secret that is missing has
// none. The candidate stays the caller's to zero. Errors are *Error.
func (v *Vault) Verify(ctx context.Context, a *Access, name string, candidate []byte) (version int32, err error) {
	defer v.ended(ctx, a, audit.ActionVerify, name, &err)
	if err := CheckName(name); err != nil {
		return 0, err
	}
	if err := v.stillKnown(ctx, a, audit.ActionVerify, name); err != nil {
		return 0, err
	}
	if err := v.authorize(ctx, a, audit.ActionVerify, name); err != nil {
		return 0, err
	}
	defer even()()
	var records [][]byte
	var actor Actor
	err = v.reading(ctx, a, audit.ActionVerify, name, func(q *pgxpool.Pool, as Actor) (err error) {
		actor = as
		records, err = v.candidates(ctx, q, a, name)
		return err
	})
	if err != nil {
		return 0, err
	}
	return v.Match(ctx, actor, name, records, candidate)
}

// candidates are the live records of a secret, newest first. The error is an *Error, or
// noRoom.
func (v *Vault) candidates(ctx context.Context, q querier, a *Access, name string) (records [][]byte, err error) {
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	rows, err := v.query(asking, q, sqlNodeRecords, name, a.Name)
	if err != nil {
		return nil, v.restError(ctx, name, err)
	}
	defer rows.Close()
	size := 0
	for rows.Next() {
		var record []byte
		if err := rows.Scan(&record); err != nil {
			return nil, v.restError(ctx, name, err)
		}
		if size += len(record); size > maxRecords {
			cancel() // what it would still send is not waited for
			return nil, invalid(name, "more than 8 MiB of values of this secret are valid: too many to compare")
		}
		if !a.fits(size) {
			cancel()
			return nil, noRoom(maxRecords)
		}
		records = append(records, record)
	}
	if err := rows.Err(); err != nil {
		return nil, v.restError(ctx, name, err)
	}
	return records, nil
}
