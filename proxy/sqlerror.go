// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"errors"

	"github.com/jackc/pgproto3/v2"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// A sqlError is an ErrorResponse of the node's own. It never holds a value nor
// a part of the client's text.
type sqlError struct {
	fatal                       bool
	code, message, detail, hint string
	position                    int    // 1-based characters of the client's text; 0: none
	reason                      string // for the audit; empty: by the code
	noted                       bool   // the audit has it
}

func (e *sqlError) Error() string { return e.code + ": " + e.message }

// append writes the error as a message of its severity.
func (e *sqlError) append(dst []byte) []byte {
	severity := "ERROR"
	if e.fatal {
		severity = "FATAL"
	}
	return wire.AppendError(dst, &pgproto3.ErrorResponse{
		Severity: severity, SeverityUnlocalized: severity, Code: e.code,
		Message: e.message, Detail: e.detail, Hint: e.hint, Position: int32(e.position), //nolint:gosec // a text has at most 2^30 characters
	})
}

// appendWarning writes it as a NoticeResponse.
func (e *sqlError) appendWarning(dst []byte) []byte {
	fields := []wire.Field{{Code: 'S', Text: "WARNING"}, {Code: 'V', Text: "WARNING"}, {Code: 'C', Text: e.code}, {Code: 'M', Text: e.message}}
	for _, f := range []wire.Field{{Code: 'D', Text: e.detail}, {Code: 'H', Text: e.hint}} {
		if f.Text != "" {
			fields = append(fields, f)
		}
	}
	return wire.AppendFields(dst, wire.NoticeResponse, fields...)
}

// SQLSTATEs that the proxy itself uses.
const (
	stateProtocol       = "08P01"
	stateFeature        = "0A000"
	stateLimit          = "54000"
	stateAuthorization  = "28000"
	statePassword       = "28P01"
	stateTooMany        = "53300"
	stateNoMemory       = "53200"
	stateShutdown       = "57P01"
	stateCannotConnect  = "57P03"
	stateCanceled       = "57014"
	stateConnection     = "08006"
	stateUnknown        = "08007"
	stateNoSchema       = "3F000"
	stateSystem         = "58000"
	stateParameter      = "22023"
	stateNullValue      = "22004"
	stateUntranslatable = "22P05"
	stateFailedBlock    = "25P02"
	stateNoStatement    = "26000"
	stateReadOnly       = "25006"
	stateNoFunction     = "42883"
	stateIdle           = "57P05"
	statePrivilege      = "42501"
	stateIO             = "58030"
)

var errShutdown = &sqlError{
	fatal: true, code: stateShutdown,
	message: "terminating connection due to administrator command",
	detail:  "The hyperion-vault node that serves this session is shutting down.",
}

var errIdle = &sqlError{
	fatal: true, code: stateIdle,
	message: "terminating connection due to idle-session timeout",
	hint:    "VAULT_IDLE_SECS on the node sets it.",
}

func fatalError(code, message, hint string) *sqlError {
	return &sqlError{fatal: true, code: code, message: message, hint: hint}
}

// fromRefusal turns what the rewrite refused into an answer.
func fromRefusal(r *rewrite.Refusal) *sqlError {
	return &sqlError{code: r.SQLState, message: r.Message, detail: r.Detail, hint: r.Hint, position: r.Position, reason: r.Reason}
}

// fromVault turns an error of the core into an answer, which names no
// internals. What an operator has to know goes to the node's log: the client is
// told one and the same of every forgery.
func (ss *session) fromVault(err error) *sqlError {
	var ve *vault.Error
	if !errors.As(err, &ve) {
		ss.srv.cfg.Log.Error("a call of the vault failed", "role", ss.user, "error", err.Error())
		return &sqlError{code: stateSystem, message: "the vault failed", hint: "The node's log has the reason."}
	}
	switch ve.Kind {
	case vault.KindInvalid, vault.KindBinary, vault.KindDenied, vault.KindLimited, vault.KindCanceled, vault.KindStale:
	default:
		ss.srv.cfg.Log.Warn("a call of the vault failed", "role", ss.user, "client", ss.peerText(),
			"kind", ve.Kind.String(), "secret", ve.Secret, "error", err.Error())
	}
	return &sqlError{
		code: ve.Kind.SQLState(), message: ve.Msg, detail: ve.Detail, hint: ve.Hint,
		reason: ve.Reason(), noted: ve.Recorded(),
	}
}
