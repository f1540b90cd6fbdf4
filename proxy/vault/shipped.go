// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// Every statement of the audit's, of extension 1.10.
const (
	sqlAuditPosition = `SELECT p.seq, p.hash FROM vault.audit_position($1::pg_catalog.text::pg_catalog.uuid) p`
	sqlAuditAppend   = `SELECT a.seq, a.hash FROM vault.audit_append($1::pg_catalog.text::pg_catalog.uuid, $2, $3, $4, $5, $6, $7, $8, $9) a`
	sqlAuditPrune    = `SELECT vault.prune_audit($1)`
	sqlPruneTime     = `SELECT pg_catalog.set_config('statement_timeout', $1, true)`
)

// An auditLog is where the chain is shipped to.
type auditLog interface {
	// position says up to where it has a node's chain.
	position(ctx context.Context, node audit.NodeID) (audit.Position, error)
	// append stores records if they follow what it has, or anything before if there is a
	// gap, and says where it stands then. errConflict: another record is in the place.
	append(ctx context.Context, b *audit.Batch, mode ShipMode, gap bool) (audit.Position, error)
}

// AuditPosition asks the primary up to where it has a node's chain.
func (v *Vault) AuditPosition(ctx context.Context, node audit.NodeID) (audit.Position, error) {
	return (&shipLog{v}).position(ctx, node)
}

// shipLog is vault.audit_log at the primary.
type shipLog struct{ v *Vault }

var (
	errConflict     = errors.New("another record is in the place of one of this node's in vault.audit_log")
	errOldExtension = errors.New("the extension is older than 1.10 (ALTER EXTENSION hyperion_vault UPDATE)")
	errNoPosition   = errors.New("the vault does not say which audit records it has")
)

func (l *shipLog) position(ctx context.Context, node audit.NodeID) (audit.Position, error) {
	return l.ask(ctx, sqlAuditPosition, node.String())
}

func (l *shipLog) append(ctx context.Context, b *audit.Batch, mode ShipMode, gap bool) (audit.Position, error) {
	if mode == ShipWrites {
		if err := b.Withhold(); err != nil {
			return audit.Position{}, err
		}
	}
	return l.ask(ctx, sqlAuditAppend, b.Node.String(), int64(b.After.Seq+1), b.N, b.After.Hash[:], gap, b.Records, //nolint:gosec // a chain's numbers fit
		b.Head.At, b.Head.Key[:], b.Head.Signature[:])
}

// here is position at the server beside the node, which may be a standby.
func (l *shipLog) here(ctx context.Context, node audit.NodeID) (audit.Position, error) {
	return l.read(ctx, l.v.store.rest, sqlAuditPosition, node.String())
}

// ask runs a statement at the primary in a transaction of its own.
func (l *shipLog) ask(ctx context.Context, sql string, args ...any) (at audit.Position, err error) {
	err = l.v.byItself(ctx, "", func(ctx context.Context, tx pgx.Tx) (err error) {
		at, err = l.read(ctx, tx, sql, args...)
		return err
	})
	return at, auditError(err)
}

func (l *shipLog) read(ctx context.Context, from querier, sql string, args ...any) (audit.Position, error) {
	var seq int64
	var hash []byte
	found, err := l.v.one(ctx, from, []any{&seq, &hash}, sql, args...)
	switch {
	case err != nil:
		return audit.Position{}, err
	case !found || seq < 0 || len(hash) != len(audit.Hash{}):
		return audit.Position{}, l.v.serverError(errNoPosition)
	}
	return audit.Position{Seq: uint64(seq), Hash: audit.Hash(hash)}, nil
}

// auditError says what the server's word means for the audit.
func auditError(err error) error {
	var pg *pgconn.PgError
	switch {
	case !errors.As(err, &pg):
	case pg.Code == "23505":
		return fmt.Errorf("%w: %s", errConflict, pg.Message) // the extension's own words: a number and a node id
	case pg.Code == "42883", pg.Code == "3F000":
		return errOldExtension
	}
	return err
}
