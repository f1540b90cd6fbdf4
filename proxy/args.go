// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// An arg is one call of a message with its name and value known.
type arg struct {
	fn    rewrite.Func
	name  string
	value []byte // plaintext, ours to zero
	key   *vault.Key
}

type args []arg

// zero erases values and unused keys.
func (as args) zero() {
	for i := range as {
		erase.Zero(as[i].value)
		as[i].key.Destroy()
	}
}

// constArgs reads the calls of a Query, whose names and values are all literals
// or made by the node.
func (ss *session) constArgs(plan *rewrite.Plan, text string) (args, *sqlError) {
	as := make(args, 0, len(plan.Calls))
	for i, c := range plan.Calls {
		a := arg{fn: c.Func, name: c.Name.Text}
		switch c.Value.Mode {
		case rewrite.Const:
			v, err := plan.DecodeValue(nil, text, i)
			if err != nil {
				return as, &sqlError{code: stateParameter, message: "the value's literal cannot be read"}
			}
			a.value = v
		case rewrite.Generated:
			a.value = ss.srv.cfg.Vault.GenerateValue()
		default:
			return as, &sqlError{code: stateFeature, message: "the value must be a literal in a simple query"}
		}
		as = append(as, a)
	}
	return as, ss.checkArgs(as)
}

// checkArgs applies the rules for names and values before anything is locked.
func (ss *session) checkArgs(as args) *sqlError {
	for _, a := range as {
		ss.about(a.fn, a.name)
		if err := vault.CheckName(a.name); err != nil {
			return ss.fromVault(err)
		}
		if err := vault.CheckValue(a.value); err != nil {
			return ss.fromVault(err)
		}
	}
	return nil
}

// keys gets a data key for each value that will be sealed. Nothing is locked
// yet, so a slow KMS holds up nobody else.
func (ss *session) keys(as args) *sqlError {
	ctx := ss.operate(opFront)
	defer ss.operated(opFront)
	for i := range as {
		if as[i].fn == rewrite.Verify {
			continue
		}
		ss.about(as[i].fn, as[i].name)
		k, err := ss.srv.cfg.Vault.NewKey(ctx, ss.who(0), as[i].name)
		if err != nil {
			if ctx.Err() != nil {
				return errCanceled
			}
			return ss.fromVault(err)
		}
		as[i].key = k
	}
	return nil
}
