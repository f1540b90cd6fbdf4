// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// A job is a rotation that is due, claimed by this node for a while.
type job struct {
	ID    int64
	Token string // the claim's own
	Name  string
	Seen  int32 // the current version then
}

// Every statement of rotation's; all but the tick are of extension 1.5.
const (
	// A tick for which somebody has to stand in: the last is three intervals ago.
	sqlStandIn = `SELECT vault.tick()::pg_catalog.text FROM (SELECT vault.status() AS s OFFSET 0) x
 WHERE coalesce((x.s ->> 'last_tick_at')::pg_catalog.timestamptz
 < pg_catalog.now() - pg_catalog.make_interval(secs => 3 * (x.s ->> 'scan_interval_secs')::pg_catalog.float8), true)`
	sqlRotationStatus = `SELECT s.open, s.failing FROM vault.rotation_status() s`
	sqlClaimJobs      = `SELECT c.job, c.token::pg_catalog.text, c.name, c.current_version FROM vault.claim_rotation($1, $2) c`
	sqlCompleteJob    = `SELECT vault.complete_rotation($1, $2::pg_catalog.text::pg_catalog.uuid, $3, $4), pg_catalog.now()`
	sqlFailJob        = `SELECT vault.fail_rotation($1, $2::pg_catalog.text::pg_catalog.uuid, $3)`
)

// Bounds of one rotation: together less than the 15 s for which a job is claimed.
const (
	rotateKeyTimeout  = 5 * time.Second // the KMS's part
	rotateTimeout     = 11 * time.Second
	rotateFailTimeout = 3 * time.Second // to say that it failed
)

// Rotate gives an automatic secret a new random value, of a userpass a new password,
// and returns it. The caller zeroes the result. Errors are *Error.
func (v *Vault) Rotate(ctx context.Context, a *Access, name string) (s Secret, err error) {
	defer v.ended(ctx, a, audit.ActionRotate, name, &err)
	if err := CheckName(name); err != nil {
		return s, err
	}
	if err := v.authorize(ctx, a, audit.ActionRotate, name); err != nil {
		return s, err
	}
	key, err := v.NewKey(ctx, a.Actor, name)
	if err != nil {
		return s, err
	}
	defer key.Destroy()
	v.fetchKey(ctx, a, name)
	err = v.write(ctx, a, audit.ActionRotate, name, func(ctx context.Context, tx *changing) error {
		s, err = v.rotate(ctx, tx, a, key, name, nil)
		return err
	})
	if err != nil {
		s.Value.Zero()
		return Secret{}, err
	}
	return s, nil
}

// rotate stores a new value in a transaction at the primary. The caller zeroes the
// result, also after an error.
func (v *Vault) rotate(ctx context.Context, tx *changing, a *Access, key *Key, name string, of *job) (s Secret, err error) {
	r, err := v.reserve(ctx, tx, a, name, audit.ActionRotate)
	if err != nil {
		return s, err
	}
	r.job = of
	var c Change
	if r.format == "userpass" {
		username, password, err := v.currentPair(ctx, tx, a, name)
		if err != nil {
			return s, err
		}
		erase.Zero(password)
		defer erase.Zero(username)
		c.Username = username
	}
	s = Secret{Name: name, Kind: r.kind}
	s.Format, s.Value = v.newValue(&c)
	err = v.storeVersion(ctx, tx, a, key, r, audit.ActionRotate, &s)
	return s, err
}

// rotateJob does a claimed job, or says at the primary why it failed: then it is
// claimed again later, by whichever node. Of a node that dies in between, or cannot
// say it, the claim ends by itself.
func (v *Vault) rotateJob(ctx context.Context, j *job) {
	defer v.rescue(ctx, "rotation", func() {}) // the claim ends by itself
	a := v.itself()
	err := v.tryJob(ctx, a, j)
	if err == nil {
		v.metrics.rotations.WithLabelValues("ok").Inc()
		return
	}
	ours, givenUp := v.failJob(ctx, j, err)
	if !ours {
		v.metrics.rotations.WithLabelValues("overtaken").Inc()
		return
	}
	v.metrics.rotations.WithLabelValues(err.Kind.String()).Inc()
	_ = v.refuse(ctx, a, audit.ActionRotate, j.Name, err) // it is only recorded
	v.log.LogAttrs(ctx, levelOf(err), "a rotation failed", append(errAttrs(err), slog.Bool("given_up", givenUp))...)
}

// tryJob asks for the key first: no lock is held meanwhile.
func (v *Vault) tryJob(ctx context.Context, a *Access, j *job) *Error {
	ctx, cancel := context.WithTimeout(ctx, rotateTimeout)
	defer cancel()
	asking, answered := context.WithTimeout(ctx, rotateKeyTimeout)
	key, err := v.NewKey(asking, a.Actor, j.Name)
	late := asking.Err() != nil && ctx.Err() == nil
	answered()
	switch {
	case err != nil && late:
		return &Error{Kind: KindKMS, Secret: j.Name, Err: err, Msg: "the KMS did not answer in time"}
	case err != nil:
		return v.asError(err)
	}
	defer key.Destroy()
	fetching, fetched := context.WithTimeout(ctx, rotateKeyTimeout)
	v.fetchKey(fetching, a, j.Name)
	fetched()
	leave, err := v.places.take(ctx, "", j.Name) // nobody's name: these are one client, too
	if err != nil {
		return v.asError(err)
	}
	defer leave()
	err = v.transact(ctx, j.Name, nil, func(ctx context.Context, tx pgx.Tx) error {
		err := v.change(ctx, tx, a, audit.ActionRotate, j.Name, func(ctx context.Context, tx *changing) error {
			s, err := v.rotate(ctx, tx, a, key, j.Name, j)
			s.Value.Zero()
			return err
		})
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == "55000" {
			return &Error{Kind: KindChanged, Secret: j.Name, Err: err, Msg: "the secret was written meanwhile"}
		}
		return err
	}, nil)
	switch {
	case err == nil:
		return nil
	case KindOf(err) == KindCanceled, KindOf(err) == KindPrimary && ctx.Err() != nil:
		return &Error{Kind: KindCanceled, Secret: j.Name, Err: err, Msg: "it took too long, or the node was stopped"}
	}
	return v.asError(err)
}

// asError is for what is an *Error already.
func (v *Vault) asError(err error) *Error {
	var e *Error
	if !errors.As(err, &e) {
		e = v.serverError(err)
	}
	return e
}

// failJob says why a job failed: never in the words of the KMS or the server, which
// are the log's. ours: as far as can be told the claim held still.
func (v *Vault) failJob(ctx context.Context, j *job, reason *Error) (ours, givenUp bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rotateFailTimeout)
	defer cancel()
	text := reason.Msg
	if reason.Detail != "" {
		text += " (" + reason.Detail + ")"
	}
	ended := &givenUp
	err := v.byItself(ctx, j.Name, func(ctx context.Context, tx pgx.Tx) error {
		_, err := v.one(ctx, tx, []any{&ended}, sqlFailJob, j.ID, j.Token, text)
		return err
	})
	return err != nil || ended != nil, err == nil && ended != nil && *ended
}

// claimJobs takes jobs for this node, as many as it does at once.
func (v *Vault) claimJobs(ctx context.Context) (jobs []*job, err error) {
	err = v.byItself(ctx, "", func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sqlClaimJobs, v.node, rotateAtOnce)
		if err != nil {
			return err
		}
		jobs, err = pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[job])
		return err
	})
	if err != nil {
		return nil, err // what was claimed all the same comes free by itself
	}
	return jobs, nil
}
