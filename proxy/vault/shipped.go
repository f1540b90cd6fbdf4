// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// Every statement of the audit's, of extension 1.6.
const (
	sqlAuditPosition = `SELECT p.seq, p.hash FROM vault.audit_position($1::pg_catalog.text::pg_catalog.uuid) p`
	sqlAuditAppend   = `SELECT a.seq, a.hash FROM vault.audit_append($1::pg_catalog.text::pg_catalog.uuid, $2, $3, $4,
 $5::pg_catalog.timestamptz[], $6::pg_catalog.text[], $7::pg_catalog.text[], $8::pg_catalog.text[]::pg_catalog.inet[], $9::pg_catalog.text[],
 $10::pg_catalog.text[], $11::pg_catalog.text[], $12::pg_catalog.text[], $13::pg_catalog.int4[], $14::pg_catalog.text[], $15::pg_catalog.bool[],
 $16::pg_catalog.text[], $17::pg_catalog.int8[], $18::pg_catalog.int8[], $19::pg_catalog.bytea[], $20, $21, $22) a`
	sqlAuditPrune = `SELECT vault.prune_audit($1)`
	sqlPruneTime  = `SELECT pg_catalog.set_config('statement_timeout', $1, true)`
)

// An auditLog is where the chain is shipped to.
type auditLog interface {
	// position says up to where it has a node's chain.
	position(ctx context.Context, node audit.NodeID) (audit.Position, error)
	// append stores rows if they follow what it has, or anything before if there is a
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
	errOldExtension = errors.New("the extension is older than 1.6 (ALTER EXTENSION hyperion_vault UPDATE)")
	errNoPosition   = errors.New("the vault does not say which audit records it has")
)

func (l *shipLog) position(ctx context.Context, node audit.NodeID) (audit.Position, error) {
	return l.ask(ctx, sqlAuditPosition, node.String())
}

func (l *shipLog) append(ctx context.Context, b *audit.Batch, mode ShipMode, gap bool) (audit.Position, error) {
	first := &b.Rows[0]
	c := newColumns(len(b.Rows))
	for i := range b.Rows {
		c.add(&b.Rows[i], mode)
	}
	return l.ask(ctx, sqlAuditAppend, first.Node.String(), int64(first.Seq), first.Prev[:], gap, //nolint:gosec // a chain's numbers fit
		c.at, c.actor, c.role, c.addr, c.face, c.database, c.action, c.secret, c.version, c.outcome, c.direct, c.reason, c.change, c.statement, c.hash,
		b.Head.At, b.Head.Key[:], b.Head.Signature[:])
}

// here is position at the server beside the node, which may be a standby.
func (l *shipLog) here(ctx context.Context, node audit.NodeID) (audit.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	return l.read(ctx, l.v.store.rest, sqlAuditPosition, node.String())
}

// ask runs a statement at the primary in a transaction of its own.
func (l *shipLog) ask(ctx context.Context, sql string, args ...any) (at audit.Position, err error) {
	err = l.v.transact(ctx, "", nil, func(ctx context.Context, tx pgx.Tx) (err error) {
		at, err = l.read(ctx, tx, sql, args...)
		return err
	}, nil)
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

// columns are rows as the arrays that audit_append takes. Empty is NULL.
type columns struct {
	at                                                                 []time.Time
	actor, role, addr, face, database, action, secret, outcome, reason []*string
	version                                                            []*int32
	direct                                                             []bool
	change, statement                                                  []*int64
	hash                                                               [][]byte

	spelled netip.Addr // the last address, and its text
	text    *string
}

func newColumns(n int) *columns {
	return &columns{
		at: make([]time.Time, 0, n), actor: make([]*string, 0, n), role: make([]*string, 0, n), addr: make([]*string, 0, n),
		face: make([]*string, 0, n), database: make([]*string, 0, n), action: make([]*string, 0, n), secret: make([]*string, 0, n),
		outcome: make([]*string, 0, n), reason: make([]*string, 0, n), version: make([]*int32, 0, n), direct: make([]bool, 0, n),
		change: make([]*int64, 0, n), statement: make([]*int64, 0, n), hash: make([][]byte, 0, n),
	}
}

// add appends a row, which stays where it is until the columns are sent.
func (c *columns) add(r *audit.Row, mode ShipMode) {
	c.at, c.hash = append(c.at, r.At), append(c.hash, r.Hash[:])
	what := &r.Record
	if mode == ShipWrites && r.Looks() {
		what = &audit.Record{Action: audit.ActionWithheld}
	}
	c.face, c.action = append(c.face, (*string)(&what.Face)), append(c.action, (*string)(&what.Action))
	c.outcome = append(c.outcome, (*string)(&what.Outcome))
	c.actor = append(c.actor, orNull(&what.Actor))
	c.role = append(c.role, orNull(&what.SessionRole))
	c.addr = append(c.addr, c.address(what.Addr))
	c.database = append(c.database, orNull(&what.Database))
	c.secret = append(c.secret, orNull(&what.Secret))
	c.reason = append(c.reason, orNull(&what.Reason))
	c.version = append(c.version, orNull(&what.Version))
	c.direct = append(c.direct, what.Direct)
	c.change = append(c.change, orNull(&what.Change))
	statement := int64(what.Statement) //nolint:gosec // the same 64 bits
	c.statement = append(c.statement, orNull(&statement))
}

// address spells one; most are the one before.
func (c *columns) address(a netip.Addr) *string {
	switch {
	case !a.IsValid():
		return nil
	case c.text == nil || a != c.spelled:
		text := a.String()
		c.spelled, c.text = a, &text
	}
	return c.text
}

func orNull[T comparable](t *T) *T {
	var zero T
	if *t == zero {
		return nil
	}
	return t
}
