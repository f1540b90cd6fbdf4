// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

const sqlBootstrapToken = `SELECT vault.bootstrap_token($1)` //nolint:gosec // it has the word, no token

// Bootstrap registers the token with this SHA-256 as an administrator's, if there
// never was a token; at the primary, so that every node knows it. It tries on until
// a primary has answered, or ctx ends.
func (v *Vault) Bootstrap(ctx context.Context, sha256 []byte) {
	retry, last := watchRetryMin, ""
	for {
		lives, err := v.bootstrap(ctx, sha256)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && lives:
			v.log.InfoContext(ctx, "the token of VAULT_BOOTSTRAP_TOKEN is an administrator's; make others, then revoke it and unset that")
			return
		case err == nil:
			v.log.WarnContext(ctx, "VAULT_BOOTSTRAP_TOKEN has no effect: there are, or were, tokens, and it is none that lives")
			return
		case err.Error() != last:
			last = err.Error()
			v.log.LogAttrs(ctx, levelOf(err), "VAULT_BOOTSTRAP_TOKEN is not registered yet", errAttrs(err)...)
		}
		if !pause(ctx, retry) {
			return
		}
		retry = min(2*retry, watchEvery)
	}
}

func (v *Vault) bootstrap(ctx context.Context, sha256 []byte) (lives bool, err error) {
	a := v.itself()
	err = v.byItself(ctx, "", func(ctx context.Context, tx pgx.Tx) error {
		c := &changing{Tx: tx, v: v, record: a.Record(audit.ActionTokenCreate, audit.OutcomeOK)}
		c.record.Direct = true
		if err := c.do(ctx, []any{&lives}, sqlBootstrapToken, sha256); err != nil || len(c.records) == 0 {
			return err
		}
		return v.append(ctx, c.records) // of a token that was there already there is none
	})
	return lives, err
}
