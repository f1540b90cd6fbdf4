// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// What the core opens and seals it records itself; here is the rest: what the server
// says that functions of the vault have done or refused, and what the node refuses.

// asked is what a message of the client's asks the vault for, as far as its record
// would say it. The front's own.
type asked struct {
	action    vault.Action // empty: nothing
	secret    string
	statement uint64
}

// functionActions is what the functions are recorded as.
var functionActions = map[string]vault.Action{
	"put_secret": vault.ActionPut, "create_secret": vault.ActionCreate, "rotate_secret": vault.ActionRotate, "update_secret": vault.ActionPut,
	"delete_secret": vault.ActionDelete, "verify_secret": vault.ActionVerify, "verify_begin": vault.ActionVerify, "next_version": vault.ActionPut,
	"list_secrets": vault.ActionList, "list_versions": vault.ActionList,
	"grant_access": vault.ActionGrant, "revoke_access": vault.ActionRevoke, "adopt_grants": vault.ActionGrant, "grant_service_role": vault.ActionGrant,
	// Not for clients.
	"tick": vault.ActionRotate, "enqueue_due_rotations": vault.ActionRotate, "expire_grace_versions": vault.ActionDelete, "prune_audit": vault.ActionDelete,
	"node_list": vault.ActionList, "node_candidates": vault.ActionVerify, "node_next_version": vault.ActionPut, "node_write": vault.ActionPut,
	"node_update": vault.ActionPut, "node_reschedule": vault.ActionPut, "node_delete": vault.ActionDelete,
	"claim_rotation": vault.ActionRotate, "complete_rotation": vault.ActionRotate, "fail_rotation": vault.ActionRotate,
	"add_token": vault.ActionTokenCreate, "bootstrap_token": vault.ActionTokenCreate, "rest_admin": vault.ActionRoleUpdate,
	"rest_roles": vault.ActionRoleList, "rest_tokens": vault.ActionTokenList, "token_role": vault.ActionTokenList,
}

// asks is what a call of a function asks for; of one that is not known: to read.
func asks(function string, statement uint64) asked {
	a := asked{action: functionActions[function], statement: statement}
	if a.action == "" {
		a.action = vault.ActionRead
	}
	return a
}

// asksFor is what a text asks for, by the first of its calls.
func asksFor(plan *rewrite.Plan, refusal *rewrite.Refusal) asked {
	switch {
	case refusal != nil:
		return asks(refusal.Function, refusal.Fingerprint)
	case plan == nil, plan.Function == "" && len(plan.Calls) == 0: // it may only execute what calls one
		return asked{}
	case len(plan.Calls) == 0:
		return asks(plan.Function, plan.Fingerprint)
	}
	a := asks(plan.Calls[0].Func.String(), plan.Fingerprint)
	a.secret = plan.Calls[0].Name.Text
	return a
}

// about notes which of a message's calls the front is at.
func (ss *session) about(fn rewrite.Func, name string) {
	ss.asked.action, ss.asked.secret = functionActions[fn.String()], name
}

// inRole notes in whose name the session runs now, as the server has told. mu is held.
func (ss *session) inRole() {
	if role := cmp.Or(ss.reported.role, ss.session); role != "" && role != ss.who(0).Role {
		ss.role.Store(&role)
	}
}

// who is whose a statement is, for the audit.
func (ss *session) who(statement uint64) vault.Actor {
	a := ss.actor
	a.Statement = statement
	if role := ss.role.Load(); role != nil {
		a.Role = *role
	}
	return a
}

// refused counts a refusal of the node's, and records it if it is one of the vault's.
// It stands, whether or not it can be recorded.
func (ss *session) refused(e *sqlError) {
	ss.count(e)
	if ss.asked.action == "" || e.noted || e == failedBlock || e.code == stateIO {
		return
	}
	r := ss.who(ss.asked.statement).Record(ss.asked.action, e.outcome())
	r.Secret, r.Direct, r.Reason = ss.asked.secret, true, e.kind()
	ss.srv.cfg.Vault.Refused(ss.srv.ctx, r)
}

// refusedUnread records the refusal of a message that the node could not look into.
func (ss *session) refusedUnread(e *sqlError) {
	ss.mu.Lock()
	has := ss.catalog.has()
	ss.mu.Unlock()
	if has {
		r := ss.who(0).Record(vault.ActionRead, e.outcome())
		r.Reason = e.kind()
		ss.srv.cfg.Vault.Refused(ss.srv.ctx, r)
	}
}

// outcome is how the audit calls what ended so.
func (e *sqlError) outcome() vault.Outcome {
	if strings.HasPrefix(e.code, "28") || e.code == statePrivilege {
		return vault.OutcomeDenied
	}
	return vault.OutcomeFailed
}

// kind is a short word for the reason, as in records of the core's.
func (e *sqlError) kind() string {
	if e.reason != "" {
		return e.reason
	}
	if k, ok := stateKinds[e.code]; ok {
		return k
	}
	return "refused"
}

var stateKinds = map[string]string{
	stateProtocol: "protocol", stateFeature: "unsupported", stateLimit: "limit", stateAuthorization: "not_allowed", statePassword: "password",
	stateTooMany: "limit", stateNoMemory: "memory", stateShutdown: "shutdown", stateCannotConnect: "server", stateCanceled: "canceled",
	stateConnection: "server", stateNoSchema: "no_vault", stateSystem: "system", stateParameter: "invalid", stateNullValue: "null",
	stateUntranslatable: "encoding", stateNoStatement: "no_statement", stateNoFunction: "no_function", stateReadOnly: "primary",
	// The rewrite's, and the server's.
	"42601": "syntax", "42P02": "no_parameter", "22021": "encoding", "54001": "limit",
	"42710": "exists", "P0002": "missing", statePrivilege: "grant", "55P03": "busy", "40P01": "busy", "40001": "busy",
}

// auditReady refuses what changes something while no record can be written: it is not
// even sent.
func (ss *session) auditReady(plan *rewrite.Plan) *sqlError {
	if plan == nil || !plan.Writes {
		return nil
	}
	if err := ss.srv.cfg.Vault.AuditReady(); err != nil {
		return ss.fromVault(err)
	}
	return nil
}

var (
	reportName   = []byte(vault.ReportName + "\x00")
	roleName     = []byte(vault.RoleName + "\x00")
	bypassesName = []byte(vault.BypassesName + "\x00")
)

// isReport reports whether a ParameterStatus is for the node alone: what a function of
// the vault has done or refused, or in which role. Nothing that a client or its SQL can
// do makes one.
func isReport(body []byte) bool { return bytes.HasPrefix(body, reportName) || isRole(body) }

func isRole(body []byte) bool {
	return bytes.HasPrefix(body, roleName) || bytes.HasPrefix(body, bypassesName)
}

// report notes one. What cannot be read ends the session, as what cannot be recorded
// does. mu is held.
func (ss *session) report(body []byte) {
	if isRole(body) {
		ss.reported.note(body)
		ss.inRole()
		return
	}
	e := ss.queue.front()
	a := ss.who(statementOf(e))
	r, ok := a.ReadReport(string(bytes.TrimSuffix(body[len(reportName):], []byte{0})), e != nil && ss.direct(e))
	ss.garbled = ss.garbled || !ok // r is empty then
	ofPrelude := e != nil && e.task != nil && e.task.pre != nil
	if ofPrelude {
		e.task.pre.told = true
	}
	if !ss.knows(&r, ofPrelude) {
		ss.noted = append(ss.noted, r)
	}
}

// noteSealed keeps the number of a change that is recorded before it is made.
func (ss *session) noteSealed(change int64) {
	if change == 0 {
		return
	}
	ss.mu.Lock()
	ss.sealed = append(ss.sealed, change)
	ss.mu.Unlock()
}

// knows says whether the session records itself what it is told: it has before it sent
// what it sealed, and does when it compares what it began to verify. A client may
// have the server reserve and begin the same by himself. mu is held.
func (ss *session) knows(r *vault.Record, ofPrelude bool) bool {
	if r.Outcome != vault.OutcomeOK {
		return false
	}
	if i := slices.Index(ss.sealed, r.Change); i >= 0 {
		ss.sealed = slices.Delete(ss.sealed, i, i+1)
		return true
	}
	return ofPrelude && r.Action == vault.ActionVerify
}

// planOf is of what an answer is owed for; nil: not known.
func planOf(e *owed) *rewrite.Plan {
	switch {
	case e.task != nil && e.task.plan != nil:
		return e.task.plan
	case e.stmt != nil:
		return e.stmt.plan
	}
	return nil
}

// statementOf is the fingerprint of what an answer is owed for; 0: not known.
func statementOf(e *owed) uint64 {
	switch {
	case e == nil:
	case e.task != nil && e.task.pre != nil:
		return e.task.pre.statement
	default:
		if plan := planOf(e); plan != nil {
			return plan.Fingerprint
		}
	}
	return 0
}

// noteFailed notes a result that the node does not give. mu is held.
func (ss *session) noteFailed(e *owed, failed *sqlError) {
	if e == nil || failed.noted || failed == errOtherForm {
		return
	}
	r := ss.who(statementOf(e)).Record(vault.ActionRead, failed.outcome())
	r.Direct, r.Reason = ss.direct(e), failed.kind()
	ss.noted = append(ss.noted, r)
}

// noteReservation notes that the server has refused to reserve a version, or to begin a
// verify, unless it has told so itself. mu is held.
func (ss *session) noteReservation(t *task, body []byte) {
	if t == nil || t.pre == nil || t.pre.told || t.group < 0 || t.group >= len(t.pre.groups) {
		return
	}
	g, failed := t.pre.groups[t.group], &sqlError{code: readAskError(body).code}
	r := ss.who(t.pre.statement).Record(functionActions[g.fn.String()], failed.outcome())
	r.Secret, r.Direct, r.Reason = g.name, true, failed.kind()
	ss.noted = append(ss.noted, r)
}

// mustNote reports whether what was noted is to be recorded before a message of this
// type is looked at: it may be the last that is owed, behind which the front's own
// words may come. mu is held.
func (ss *session) mustNote(typ byte) bool {
	switch typ {
	case wire.DataRow, wire.RowDescription, wire.ParameterStatus, wire.NoticeResponse, wire.CopyData:
		return len(ss.noted) >= maxOpen
	}
	return len(ss.noted) > 0
}

// record appends what was noted, in one call. The error ends the session, unless
// there were refusals only, which stand. mu is held, and given up meanwhile: the
// statement that they are of is not answered yet, so that the front says nothing.
func (ss *session) record() error {
	if len(ss.noted) == 0 {
		return nil
	}
	noted, garbled := ss.noted, ss.garbled
	ss.noted = nil // more may be noted meanwhile
	ss.mu.Unlock()
	records := slices.DeleteFunc(noted, func(r vault.Record) bool { return r.Action == "" })
	done := slices.ContainsFunc(records, func(r vault.Record) bool { return r.Outcome == vault.OutcomeOK })
	err := ss.appendRecords(records, done)
	ss.mu.Lock()
	if ss.noted == nil && cap(noted) <= 64 {
		ss.noted = noted[:0]
	}
	switch {
	case err != nil && done:
		_ = ss.fromVault(err) // for the log
		return errUnrecorded
	case garbled:
		return errReport
	}
	return nil
}

// appendRecords appends records; nobody can cancel that of what was done.
func (ss *session) appendRecords(records []vault.Record, done bool) error {
	switch {
	case len(records) == 0:
		return nil
	case done:
		ctx, stop := context.WithTimeout(context.WithoutCancel(ss.srv.ctx), recordTimeout)
		defer stop()
		return ss.srv.cfg.Vault.Append(ctx, records...)
	}
	ctx := ss.operate(opBack)
	defer ss.operated(opBack)
	return ss.srv.cfg.Vault.Append(ctx, records...)
}

// recordTimeout bounds how long the record of what was done waits for the disk.
const recordTimeout = 5 * time.Second

// recordNow is record for a session that does not run yet.
func (ss *session) recordNow() error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.record()
}

var (
	errReport = fatalError(stateSystem, "the vault's extension answered in a form that this node does not know",
		"Node and extension may be of versions that do not work together.")
	errUnrecorded = fatalError(stateIO, "a function of the vault has run, and its audit record could not be written",
		"Look whether it was done before you call it again. See the node's log and the free space in VAULT_AUDIT_DIR.")
)

// noteLogin records how a log-in ended; err is nil if it succeeded.
func (ss *session) noteLogin(err error) {
	a := vault.Actor{Name: ss.user, Via: vault.ViaSQL, Addr: ss.peer, Database: ss.database}
	outcome, reason := vault.OutcomeOK, ""
	var mine *sqlError
	var server *serverFatal
	switch {
	case err == nil:
		a.Role = ss.user
	case errors.As(err, &mine):
		outcome, reason = mine.outcome(), mine.kind()
	case errors.As(err, &server):
		outcome, reason = vault.OutcomeDenied, "server"
	default:
		return // it has left
	}
	ss.srv.cfg.Vault.NoteLogin(ss.srv.ctx, a, outcome, reason)
}
