// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// Kind says what went wrong. It decides the SQLSTATE, and the HTTP status.
type Kind int

// The kinds. The zero Kind is an internal error, so that a forgotten one fails
// closed.
const (
	KindInternal Kind = iota // a bug
	KindInvalid              // a name or a value that breaks a rule
	KindBinary               // not text: only REST can carry it
	KindDenied               // a rule denies it: who asks, or from where
	KindLimited              // too many wrong values were verified, or unknown tokens sent
	KindTampered             // a record, or the server's vault id, is not what it should be
	KindKMS                  // the KMS could not be asked, or refused
	KindAudit                // the audit record could not be written
	KindCanceled             // the caller gave up
	KindServer               // the local server cannot be used
	KindStale                // what the local server shows is too old
	KindNotReady             // this node cannot open or seal yet, or no more
	KindUnknown              // REST: who asks has no token, or none that is known
	KindMissing              // REST: there is no such secret
	KindExists               // REST: there is one already
	KindChanged              // REST: it is not at the version that the caller has seen
	KindBusy                 // REST: somebody else is writing it
	KindInUse                // REST: something else needs it still
	KindPrimary              // REST: no primary takes the write, or it was lost
	kindCount
)

// SQLState returns the SQLSTATE that a client gets.
func (k Kind) SQLState() string {
	switch k {
	case KindInvalid:
		return "22023" // invalid_parameter_value
	case KindBinary:
		return "22021" // character_not_in_repertoire
	case KindDenied:
		return "42501" // insufficient_privilege
	case KindLimited:
		return "53400" // configuration_limit_exceeded
	case KindTampered:
		return "XX001" // data_corrupted
	case KindKMS, KindNotReady:
		return "58000" // system_error: something outside PostgreSQL
	case KindAudit:
		return "58030" // io_error
	case KindCanceled:
		return "57014" // query_canceled
	case KindServer:
		return "57P03" // cannot_connect_now
	case KindStale, KindChanged:
		return "55000" // object_not_in_prerequisite_state
	case KindUnknown:
		return "28000" // invalid_authorization_specification
	case KindMissing:
		return "P0002" // no_data_found
	case KindExists:
		return "42710" // duplicate_object
	case KindBusy:
		return "55P03" // lock_not_available
	case KindInUse:
		return "55006" // object_in_use
	case KindPrimary:
		return "25006" // read_only_sql_transaction
	case KindInternal, kindCount:
	}
	return "XX000" // internal_error
}

// String returns a short name, for metrics and, see Reason, audit records.
func (k Kind) String() string {
	switch k {
	case KindInvalid:
		return "invalid"
	case KindBinary:
		return "binary"
	case KindDenied:
		return "denied"
	case KindLimited:
		return "limited"
	case KindTampered:
		return "tampered"
	case KindKMS:
		return "kms"
	case KindAudit:
		return "audit"
	case KindCanceled:
		return "canceled"
	case KindServer:
		return "server"
	case KindStale:
		return "stale"
	case KindNotReady:
		return "not_ready"
	case KindUnknown:
		return "unknown"
	case KindMissing:
		return "missing"
	case KindExists:
		return "exists"
	case KindChanged:
		return "changed"
	case KindBusy:
		return "busy"
	case KindInUse:
		return "in_use"
	case KindPrimary:
		return "primary"
	case KindInternal, kindCount:
	}
	return "internal"
}

// outcome is how an audit record calls an operation that failed this way.
func (k Kind) outcome() audit.Outcome {
	if k == KindDenied || k == KindUnknown {
		return audit.OutcomeDenied
	}
	if k == KindLimited {
		return audit.OutcomeLockedOut
	}
	return audit.OutcomeFailed
}

// Error is every error of this package that a client may see. Msg, Detail and
// Hint go to the client; Err is for the node's log only. None holds a value.
type Error struct {
	Kind              Kind
	Secret            string // the secret's name, if one is known
	Msg, Detail, Hint string
	Wait              time.Duration // when to try again; 0: not known
	Err               error

	reason string // of a denial: the rule, if the kind does not say it; for the audit only
	noted  bool   // the audit has it
}

// What the record of a denial says of the rule that denied it (docs/AUDIT.md). No
// client is told.
const (
	byAddress = "address" // VAULT_ALLOWED_IPS, VAULT_PROXY_ALLOWED_IPS
	byCIDRs   = "cidrs"   // the secret's allowed_cidrs
	byToken   = "token"   // one is asked for, and none came
	byRole    = "role"    // the permissions of a role of REST
	byAdmin   = "admin"   // administrators only; in SQL who has the rights of the extension's owner
	byGrant   = "grant"   // the server's: rights on secrets in SQL
)

// Error returns everything but the hint; not for clients.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Msg)
	if e.Detail != "" {
		b.WriteString(" (" + e.Detail + ")")
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Reason is the word of its audit record: the rule that denied it, else the kind.
func (e *Error) Reason() string {
	return cmp.Or(e.reason, e.Kind.String())
}

// reasonOf is Reason of any error.
func reasonOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason()
	}
	return KindInternal.String()
}

// Recorded says whether the audit has it.
func (e *Error) Recorded() bool { return e.noted }

// KindOf returns the kind of any error; what is not an *Error is internal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindInternal
}

// tampered is the answer to every forgery, whichever it is: damaged text,
// another vault's record, another key, a wrong tag.
func tampered(secret string, cause error) *Error {
	return &Error{
		Kind: KindTampered, Secret: secret, Err: cause,
		Msg: "a sealed record was damaged or tampered with and is not opened",
		Hint: "The node's log says which secret it is, and whether its KMS key is not configured on this node " +
			"(VAULT_KMS_KEY_ID, VAULT_KMS_DECRYPT_KEY_IDS, or the local master key). If that is not it, compare vault.secret_versions with a backup.",
	}
}

// sealerError translates what the sealer returned. gaveUp is the error of the
// caller's context, nil if it goes on.
func (v *Vault) sealerError(gaveUp error, secret string, err error) *Error {
	var kms *envelope.KMSError
	switch {
	case errors.Is(err, envelope.ErrTampered):
		return tampered(secret, err)
	case gaveUp != nil:
		return canceled(secret, err)
	case errors.As(err, &kms):
		return kmsError(secret, kms)
	case errors.Is(err, envelope.ErrName):
		return invalidName(err)
	case errors.Is(err, envelope.ErrValue):
		return invalidValue(secret)
	case errors.Is(err, envelope.ErrClosed):
		return &Error{Kind: KindNotReady, Secret: secret, Msg: fmt.Sprintf("node %q is shutting down", v.node), Hint: "Connect to another node.", Err: err}
	}
	return &Error{Kind: KindInternal, Secret: secret, Msg: "the vault failed unexpectedly", Hint: "See the node's log.", Err: err}
}

// kmsError names the KMS and the kind of failure; the provider's own words stay
// in the log.
func kmsError(secret string, err *envelope.KMSError) *Error {
	e := &Error{
		Kind: KindKMS, Secret: secret, Err: err,
		Msg:    "the KMS did not serve this node",
		Detail: fmt.Sprintf("KMS: %v.", err.Kind),
		Hint:   "The node's log has the KMS's own words.",
	}
	if err.Kind.Retryable() {
		e.Hint = "Try again in a moment; the node's log has the KMS's own words."
	}
	return e
}

func invalidName(err error) *Error { return invalid("", err.Error()) }

func invalidValue(secret string) *Error {
	return invalid(secret, fmt.Sprintf("a secret's value must have 1 to %d bytes", envelope.MaxValue))
}

// invalid is for what is wrong with a request; text states the rule, never what was
// sent.
func invalid(name, text string) *Error { return &Error{Kind: KindInvalid, Secret: name, Msg: text} }

func canceled(name string, err error) *Error {
	return &Error{Kind: KindCanceled, Secret: name, Err: err, Msg: "canceling statement due to user request"}
}

func busy(name string, err error) *Error {
	return &Error{Kind: KindBusy, Secret: name, Err: err, Msg: "another transaction is writing this secret", Hint: "Try again in a moment."}
}

func missing(name string) *Error {
	return &Error{Kind: KindMissing, Secret: name, Msg: "there is no such secret, or no such version any more"}
}

func changed(name string, current int32) *Error {
	return &Error{
		Kind: KindChanged, Secret: name,
		Msg: fmt.Sprintf("the secret is at version %d", current), Hint: "Read it again.",
	}
}

func needsToken() *Error {
	return &Error{Kind: KindUnknown, reason: byToken, Msg: "this needs a token", Hint: "Send the header Authorization: Bearer TOKEN."}
}

func notKnown() *Error {
	return &Error{Kind: KindUnknown, Msg: "the token is not known, or was revoked"}
}
