// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// Record is one operation in the audit.
type Record = audit.Record

// Outcome is how an operation ended.
type Outcome = audit.Outcome

// The outcomes that a face may have to say itself.
const (
	OutcomeOK     = audit.OutcomeOK
	OutcomeDenied = audit.OutcomeDenied
	OutcomeFailed = audit.OutcomeFailed
)

// Record starts an audit record of what this one does now.
func (a Actor) Record(action Action, outcome Outcome) Record {
	return a.record(time.Now(), action, outcome)
}

func (a Actor) record(at time.Time, action audit.Action, outcome audit.Outcome) audit.Record {
	return audit.Record{
		At: at, Actor: a.Name, SessionRole: a.Role, Addr: a.Addr, Face: a.Via, Database: a.Database,
		Action: action, Outcome: outcome, Statement: a.Statement,
	}
}

// AuditReady says, at no cost, whether records can be written now: what changes
// something is not even begun if they cannot. The error is an *Error.
func (v *Vault) AuditReady() error {
	if err := v.audit.Ready(); err != nil {
		return v.auditError(err)
	}
	return nil
}

// Append records operations that a face has seen, or does itself, all or none. The
// error is an *Error; after it nothing of them may reach a client.
func (v *Vault) Append(ctx context.Context, records ...Record) error {
	return v.append(ctx, records)
}

// NoteSealed records that a value was sealed for this version of a secret: it is
// about to be sent to the server, which may still refuse it. change is what the
// server will note it under, 0 if it did not say. The error is an *Error; after it
// the record must not be sent.
func (v *Vault) NoteSealed(ctx context.Context, a Actor, action Action, secret string, version int32, change int64) error {
	r := a.record(time.Now(), action, audit.OutcomeOK)
	r.Secret, r.Version, r.Direct, r.Change = secret, version, true, change
	return v.append(ctx, []audit.Record{r})
}

// note records an operation of REST that was done.
func (v *Vault) note(ctx context.Context, a *Access, action audit.Action, name string) error {
	r := a.record(time.Now(), action, audit.OutcomeOK)
	r.Secret, r.Direct = name, true
	return v.append(ctx, []audit.Record{r})
}

// append hands one buffer's records to the sink.
func (v *Vault) append(ctx context.Context, records []audit.Record) error {
	for i := range records {
		withoutTokens(&records[i])
	}
	err := v.audit.Append(ctx, records)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return canceled("", err)
	}
	return v.auditError(err)
}

func (v *Vault) auditError(err error) *Error {
	return &Error{
		Kind: KindAudit, Err: err,
		Msg:  fmt.Sprintf("the audit record could not be written on node %q", v.node),
		Hint: "Nothing is opened without one. See the node's log and the free space in VAULT_AUDIT_DIR.",
	}
}

// refusalTimeout bounds how long a refusal waits for its record.
const refusalTimeout = time.Second

// Refused records what was refused, or has failed. That stands, whether or not it can
// be recorded, for nothing leaves; so it is recorded, too, if the client has given up.
// A name that no secret can have is left out: it may be a value in the wrong place.
func (v *Vault) Refused(ctx context.Context, r Record) {
	r.Secret = recordable(r.Secret)
	v.refused(ctx, r)
}

// Malformed is Refused for a request by REST that cannot be read, as the reason says.
func (v *Vault) Malformed(ctx context.Context, a *Access, action Action, name, reason string) {
	r := a.record(time.Now(), action, audit.OutcomeFailed)
	r.Secret, r.Direct, r.Reason = name, true, reason
	v.refusedAs(ctx, a, r)
}

// recordable is a name as far as it may be recorded.
func recordable(name string) string {
	if envelope.CheckName(name) != nil {
		return ""
	}
	return name
}

// withoutTokens leaves out whatever stands in the place of a name and is a token: it
// may come by way of the server, too.
func withoutTokens(r *audit.Record) {
	for _, text := range [...]*string{&r.Secret, &r.Actor, &r.SessionRole, &r.Database} {
		if HoldsToken(*text) {
			*text = ""
		}
	}
}

func (v *Vault) refused(ctx context.Context, records ...audit.Record) {
	if len(records) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refusalTimeout)
	defer cancel()
	_ = v.append(ctx, records) // see Refused
}

// recordFailure is Refused for an operation's error, which it returns.
func (v *Vault) recordFailure(ctx context.Context, r audit.Record, err error) error {
	v.refused(ctx, r)
	var e *Error
	if errors.As(err, &e) {
		e.noted = true
	}
	return err
}

// recorded is what an operation that failed in this way is recorded as: an opening of
// what is not genuine is no reading.
func (k Kind) recorded(asked audit.Action) audit.Action {
	if k == KindTampered {
		return audit.ActionTampering
	}
	return asked
}

// refusal is the record of what was refused, or has failed.
func (a *Access) refusal(action audit.Action, name string, err error) audit.Record {
	kind := KindOf(err)
	r := a.record(time.Now(), kind.recorded(action), kind.outcome())
	r.Secret, r.Direct, r.Reason = name, true, reasonOf(err)
	return r
}

// refuse records a refusal and returns it.
func (v *Vault) refuse(ctx context.Context, a *Access, action audit.Action, name string, err *Error) error {
	v.refusedAs(ctx, a, a.refusal(action, name, err))
	err.noted = true
	return err
}

// ended records an operation of REST that has failed, unless that was done where it
// failed. Deferred by the operation, with its error.
func (v *Vault) ended(ctx context.Context, a *Access, action audit.Action, name string, err *error) {
	if *err == nil { // so that no room is made for e
		return
	}
	var e *Error
	if errors.As(*err, &e) && e.noted {
		return
	}
	v.refusedAs(ctx, a, a.refusal(action, name, *err))
	if e != nil {
		e.noted = true
	}
}
