// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"cmp"
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// changing is a transaction of REST at the primary, with the records of what it
// changes: one for each that the server notes in vault.changes and tells of, and of a
// server that tells nothing (the extension is older than 1.7) one for all.
type changing struct {
	pgx.Tx
	v       *Vault
	record  audit.Record // what is done
	records []audit.Record
}

// change runs work in a transaction and appends its records before it is committed: a
// record may stand for a change that came to nothing, and no change is without one.
func (v *Vault) change(ctx context.Context, tx pgx.Tx, a *Access, action audit.Action, name string, work func(context.Context, *changing) error) error {
	c := &changing{Tx: tx, v: v, record: a.Record(action, audit.OutcomeOK)}
	c.record.Secret, c.record.Direct = name, true
	if err := work(ctx, c); err != nil {
		return err
	}
	if len(c.records) == 0 {
		c.records = append(c.records, c.record)
	}
	return v.append(ctx, c.records)
}

// do runs a statement that changes one thing and returns one row. Of what it is told
// the connection keeps the last report, which is then the only one.
func (c *changing) do(ctx context.Context, into []any, sql string, args ...any) error {
	before := lastReport(c.Tx)
	if _, err := c.v.one(ctx, c, into, sql, args...); err != nil {
		return err
	}
	// Each has another number: the same is what an earlier statement was told.
	now := lastReport(c.Tx)
	if now == before {
		return nil
	}
	return c.told(now)
}

// told makes a record of a report. A statement that has succeeded has changed something.
func (c *changing) told(report string) error {
	told, ok := Actor{}.ReadReport(report, true)
	if !ok || told.Outcome != audit.OutcomeOK || told.Change == 0 {
		return &Error{
			Kind: KindServer, Secret: c.record.Secret, Msg: "the vault's extension answered in a form that this node does not know",
			Hint: "Node and extension may be of versions that do not work together.",
		}
	}
	r := c.record
	r.Action, r.Change = told.Action, told.Change
	r.Secret = cmp.Or(r.Secret, told.Secret)
	r.Version = cmp.Or(told.Version, r.Version)
	c.records = append(c.records, r)
	return nil
}

// itself is who does what nobody has asked for: the service role is who is there.
func (v *Vault) itself() *Access {
	return &Access{Actor: Actor{Name: v.store.user, Via: audit.FaceNode, Database: v.store.database}}
}

func lastReport(tx pgx.Tx) string { return tx.Conn().PgConn().ParameterStatus(ReportName) }
