// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// pruneEvery is how often old records are deleted from the vault.
	pruneEvery = time.Hour

	// pruneFirst is how long after its start a node does: by then it knows who is
	// primary.
	pruneFirst = 30 * time.Second

	// pruneTimeout is for one transaction, of 100,000 rows. A write's is what ends it
	// at the node; with the store's it would end at the same row each time.
	pruneTimeout = writeTimeout
)

// KeepPruning deletes audit records from the vault that are older than is given, until
// ctx ends. Each node does; the server has a bound of its own.
func (v *Vault) KeepPruning(ctx context.Context, retention time.Duration) {
	v.keepPruning(ctx, retention, pruneFirst, pruneEvery)
}

func (v *Vault) keepPruning(ctx context.Context, retention, first, every time.Duration) {
	var told string
	for wait := first; ; wait = every {
		if !pause(ctx, jittered(wait)) {
			return
		}
		deleted, err := v.pruneAudit(ctx, time.Now().Add(-retention))
		if deleted > 0 {
			v.log.InfoContext(ctx, "old audit records were deleted from the vault", "records", deleted)
		}
		text := ""
		if err != nil && ctx.Err() == nil {
			text = err.Error()
		}
		if text != "" && text != told {
			v.log.LogAttrs(ctx, levelOf(err), "old audit records cannot be deleted from the vault", errAttrs(err)...)
		}
		told = text
	}
}

// pruneAudit deletes all records from before a time, a bounded number in each
// transaction.
func (v *Vault) pruneAudit(ctx context.Context, before time.Time) (deleted int64, err error) {
	for {
		var n int64
		err := v.byItself(ctx, "", func(ctx context.Context, tx pgx.Tx) error {
			var set string
			if _, err := v.one(ctx, tx, []any{&set}, sqlPruneTime, strconv.FormatInt(pruneTimeout.Milliseconds(), 10)); err != nil {
				return err
			}
			_, err := v.one(ctx, tx, []any{&n}, sqlAuditPrune, before)
			return err
		})
		if err != nil || n == 0 {
			return deleted, auditError(err)
		}
		deleted += n
	}
}
