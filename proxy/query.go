// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// slow handles a message that has to wait, needs a round trip of the node's own
// or is changed. Everything before it has been forwarded. The front holds no
// lock; the back goes on. Whatever touches a value runs inside erase.Do.
func (ss *session) slow(typ byte, body []byte) (v verdict, err error) {
	ss.asked = asked{}
	if ss.replication {
		ss.asked = asks("", 0)
		ss.refused(errReplication)
		return drop, errReplication
	}
	if v, handled, err := ss.relocate(typ, body); handled || err != nil {
		return v, err
	}
	switch typ {
	case wire.Query:
		ss.cr.MarkSecret()
		erase.Do(func() { v, err = ss.slowQuery(body) })
	case wire.Parse:
		ss.cr.MarkSecret()
		erase.Do(func() { v, err = ss.slowParse(body) })
	case wire.Bind:
		ss.cr.MarkSecret()
		erase.Do(func() { v, err = ss.slowBind(body) })
	case wire.Execute:
		v, err = drop, ss.describeAndExecute(body)
	case wire.FunctionCall:
		ss.cr.MarkSecret()
		ss.asked = asks("", 0)
		v, err = drop, ss.refuseQuery(&sqlError{
			code: stateFeature, message: "a function of the vault cannot be called by the fast path",
			hint: "Call it in a SELECT.",
		})
	default:
		v = again
	}
	return v, err
}

var errReplication = fatalError(stateFeature, "a replication connection cannot carry the vault's calls", "Use an ordinary connection.")

// passGate waits until what reads secrets has been opened, before anything goes
// out that could not be undone if the opening failed.
func (ss *session) passGate(typ byte) (waited bool, err error) {
	if given, err := ss.giveRefusal(); given || err != nil {
		return true, err
	}
	ss.mu.Lock()
	g, failed := ss.gate, ss.batch.failed
	switch {
	case ss.queue.len() >= maxOwed:
		err = ss.wait(func() bool { return ss.queue.len() < maxOwed/2 })
		ss.mu.Unlock()
		return true, err
	case g == gateReady, g == gateNone && !failed && ss.inFlight():
		err = ss.wait(func() bool { return ss.queue.ends == 0 || ss.amongData(typ) })
		if g == gateNone || err != nil || ss.queue.ends > 0 {
			ss.mu.Unlock()
			return true, err
		}
	case g == gateRows && !failed:
		ss.mu.Unlock()
		if err := ss.send(wire.AppendEmpty(nil, wire.Flush)); err != nil {
			return true, err
		}
		ss.mu.Lock()
		err = ss.wait(func() bool { return ss.queue.len() == 0 || ss.queue.skipping || ss.batch.failed })
		failed = ss.batch.failed
	}
	if g == gateNone && !failed || err != nil {
		ss.mu.Unlock()
		return false, err
	}
	ss.gate = gateNone
	if !failed {
		ss.mu.Unlock()
		return true, nil
	}
	// The client has had its error; now the server's transaction fails too.
	ss.batch.failed, ss.skip = false, true
	ss.mu.Unlock()
	return true, ss.poisonBatch(&task{swallow: true, poison: true})
}

// poisonText is a syntax error that holds nothing of the client's.
const poisonText = "hyperion_vault refused this message"

// poisonBatch makes the server's transaction fail and skip to Sync, at this
// place of the pipeline. The Parse fails, so its name is never taken.
func (ss *session) poisonBatch(t *task) error {
	msgs := wire.AppendParse(nil, ss.own+"x", poisonText)
	return ss.send(wire.AppendEmpty(msgs, wire.Flush), owed{kind: oweParse, named: true, task: t})
}

// poisonQuery is the same for a Query. Where the vault is, the server's log
// gets a better word.
func (ss *session) poisonQuery() []byte {
	if ss.catalog.has() {
		return wire.AppendQuery(nil, "SELECT vault.fail('0A000', 'a hyperion-vault node refused this message')")
	}
	return wire.AppendQuery(nil, poisonText)
}

// settle waits until the server owes no ReadyForQuery, so that the node knows
// transaction state and settings. Inside an un-synced batch it waits for what
// the batch did; skipped says that the batch has failed.
func (ss *session) settle() (state byte, skipped bool, err error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if err := ss.awaitReady(); err != nil {
		return 0, false, err
	}
	if ss.queue.len() > 0 {
		ss.mu.Unlock()
		err := ss.send(wire.AppendEmpty(nil, wire.Flush))
		ss.mu.Lock()
		if err == nil {
			err = ss.wait(func() bool { return ss.queue.len() == 0 || ss.queue.skipping })
		}
		if err != nil {
			return 0, false, err
		}
	}
	return ss.state, ss.queue.skipping, nil
}

// refuseQuery answers a Query or FunctionCall in the server's place. Outside a
// transaction nothing reaches the server; inside one something that fails goes
// there instead, so that the transaction fails as after any error.
func (ss *session) refuseQuery(e *sqlError) error {
	ss.refused(e)
	state, skipped, err := ss.settle()
	if err != nil || skipped {
		return err
	}
	ss.mu.Lock()
	open := ss.batch.open
	ss.mu.Unlock()
	switch {
	case state == wire.Idle && !open:
		return ss.local(wire.AppendReady(e.append(nil), wire.Idle))
	case state == wire.InFailed && !open:
		return ss.local(wire.AppendReady(failedBlock.append(nil), wire.InFailed))
	}
	ss.mu.Lock()
	ss.dropUnnamed()
	ss.mu.Unlock()
	return ss.send(ss.poisonQuery(), owed{kind: oweQuery, task: &task{swallow: true, fail: e}})
}

var failedBlock = &sqlError{
	code:    stateFailedBlock,
	message: "current transaction is aborted, commands ignored until end of transaction block",
}

// dropUnnamed notes what a Query does: it destroys the unnamed statement and
// portal, and ends the batch. mu is held.
func (ss *session) dropUnnamed() {
	ss.runs++
	ss.used = true
	ss.unnamedStmt, ss.unnamedPortal, ss.batch = nil, portal{}, batch{}
	ss.unnamedDescribed, ss.unnamedUtility = false, true
	ss.forgetUnnamed()
}

func (ss *session) count(e *sqlError) {
	ss.srv.metrics.calls.WithLabelValues("refused", e.code).Inc()
}

// analyse asks the rewrite, and answers for databases that have no vault. What a
// refused text was to prepare is lost.
func (ss *session) analyse(text string, o rewrite.Options) (plan *rewrite.Plan, failed *sqlError) {
	begun := time.Now()
	plan, refusal := ss.srv.cfg.Analyzer.Analyze(text, o)
	ss.srv.metrics.parse.Observe(time.Since(begun).Seconds())
	defer func() {
		if failed != nil && refusal != nil {
			ss.mu.Lock()
			ss.losePrepared(refusal.Prepares)
			ss.mu.Unlock()
		}
	}()
	if refusal != nil && refusal.Unqualified && len(o.Foreign) == 0 {
		foreign, err := ss.foreignNames()
		if err != nil {
			return nil, &sqlError{code: stateSystem, message: "the server could not be asked whose function this is"}
		}
		if o.Foreign = foreign; len(foreign) > 0 {
			plan, refusal = ss.srv.cfg.Analyzer.Analyze(text, o)
		}
	}
	ss.asked = asksFor(plan, refusal)
	if !ss.catalog.has() {
		// Schema vault is somebody else's. Not so where the vault is to be: that it is no more
		// is the word of the server, or of its superuser, for whom values are not.
		foreign := ss.catalog.foreign && ss.database != ss.srv.cfg.Database
		if foreign || refusal != nil && refusal.Table {
			return nil, nil // or a table in it is
		}
		if e := ss.elsewhere(plan, refusal); e != nil {
			return nil, e
		}
	}
	if refusal != nil {
		return nil, fromRefusal(refusal)
	}
	if plan == nil {
		return nil, nil
	}
	if e := ss.executesPut(plan); e != nil {
		return nil, e
	}
	if len(plan.Calls) > 0 {
		if e := ss.secretsAllowed(); e != nil {
			return nil, e
		}
	}
	if e := ss.auditReady(plan); e != nil {
		return nil, e
	}
	return plan, nil
}

// elsewhere answers a call in a database that has no vault.
func (ss *session) elsewhere(plan *rewrite.Plan, refusal *rewrite.Refusal) *sqlError {
	if refusal == nil && (plan == nil || !plan.Direct && len(plan.Calls) == 0) {
		return nil
	}
	if ss.database == ss.srv.cfg.Database {
		return &sqlError{
			code: stateNoSchema, message: "the extension hyperion_vault is not in this database, where the vault should be",
			hint: "hyperion-vault init makes the vault, and hyperion-vault status says what is wrong. Connect again when it is there.",
		}
	}
	return &sqlError{
		code: stateNoSchema, message: "the vault of this cluster is in database \"" + ss.srv.cfg.Database + "\"",
		hint: "Connect to that database.",
	}
}

// executesPut refuses SQL EXECUTE of a statement that carries values, or was meant to:
// its arguments would reach the server in clear.
func (ss *session) executesPut(plan *rewrite.Plan) *sqlError {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, name := range plan.Executes {
		if st, sealed := ss.bindTarget(cutName([]byte(name))); sealed {
			return ss.noExecute(st)
		}
	}
	for _, name := range plan.Guessed { // most are other words: what nobody knows is not taken for a put
		if st := ss.stmts[string(cutName([]byte(name)))]; st.puts() || name == rewrite.AnyName && ss.hasPuts {
			return ss.noExecute(st)
		}
	}
	return nil
}

// noExecute is the refusal. mu is held.
func (ss *session) noExecute(st *statement) *sqlError {
	e := &sqlError{
		code: stateFeature, message: "EXECUTE of a prepared statement that puts a secret would send the value in clear",
		hint: "Bind the statement through the protocol, as drivers do, or call the function itself.",
	}
	if st != nil && st.plan != nil {
		ss.asked = asksFor(st.plan, nil)
	} else {
		e.detail = "The statement was refused, skipped after an error, or dropped with all others; PREPARE of another one by its name makes the name usable."
	}
	return e
}

func (ss *session) options(extended, settled bool) rewrite.Options {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return rewrite.Options{Extended: extended, StdStrings: ss.stdStrings, Encoding: ss.encoding, Settled: settled}
}

// slowQuery handles a Query whose text mentions the vault.
func (ss *session) slowQuery(body []byte) (verdict, error) {
	state, skipped, err := ss.settle()
	if err != nil || skipped { // the server drops a Query while it skips to Sync
		ss.mu.Lock()
		ss.loseText(wire.Query, body)
		ss.mu.Unlock()
		return drop, err
	}
	text := string(bytes.TrimSuffix(body, []byte{0}))
	ss.mu.Lock()
	settled := !ss.batch.executed
	if !ss.concerns(body) { // it only might have had to go to the primary
		ss.pushQuery(body)
		ss.mu.Unlock()
		return pass, nil
	}
	ss.mu.Unlock()
	plan, refused := ss.analyse(text, ss.options(false, settled))
	if refused != nil {
		return drop, ss.refuseQuery(refused)
	}
	if plan == nil {
		ss.mu.Lock()
		ss.pushQuery(body)
		ss.mu.Unlock()
		return pass, nil
	}
	if len(plan.Calls) == 0 {
		return drop, ss.sendQuery(plan, text, nil, "")
	}
	if state == wire.InFailed {
		return drop, ss.refuseQuery(failedBlock)
	}
	args, failed := ss.constArgs(plan, text)
	defer args.zero()
	if failed != nil {
		return drop, ss.refuseQuery(failed)
	}
	if failed := ss.keys(args); failed != nil {
		return drop, ss.refuseQuery(failed)
	}
	values, failed, err := ss.lock(args)
	switch {
	case err != nil:
		return drop, err
	case failed == errAnswered: // the server's own error went to the client: now its ReadyForQuery
		return drop, ss.syncQuery()
	case failed != nil:
		ss.refused(failed)
		if err := ss.poisonBatch(&task{fail: failed}); err != nil {
			return drop, err
		}
		return drop, ss.syncQuery()
	}
	prefix := ""
	if state == wire.Idle {
		prefix = joinPrefix
	}
	return drop, ss.sendQuery(plan, text, values, prefix)
}

// joinPrefix stands in front of a Query that joins the transaction which the
// lock opened. Without it PostgreSQL 18 leaves a lone statement uncommitted,
// and a later Sync loses it.
const joinPrefix = "SET LOCAL hyperion_vault.joined = on; "

// sendQuery sends a Query with its edits.
func (ss *session) sendQuery(plan *rewrite.Plan, text string, values [][]byte, prefix string) error {
	msg, mark := wire.Begin(make([]byte, 0, len(text)+len(prefix)+64), wire.Query)
	msg = append(msg, prefix...)
	msg = plan.SpliceQuery(msg, text, values)
	msg = append(msg, 0)
	if len(msg)-mark > ss.srv.grown {
		return ss.refuseQuery(&sqlError{code: stateLimit, message: "the statement is too long once its values are sealed"})
	}
	t := &task{plan: plan, sql: text, sent: rewrite.Sent{Prefix: len(prefix), SingleByte: ss.singleByte}, reads: plan.Reads}
	for _, v := range values {
		t.sent.Lengths = append(t.sent.Lengths, len(v))
	}
	ss.mu.Lock()
	if plan.Reads {
		ss.gate = gateReady
	}
	t.direct = ss.namesDirect([]byte(text))
	prev := ss.unnamedStmt
	ss.dropUnnamed()
	ss.keepNames(plan)
	t.prepares, t.run = plan.Prepares, ss.runs
	ss.mu.Unlock()
	return ss.sendAs(len(plan.Calls) == 0, wire.End(msg, mark), owed{kind: oweQuery, prev: prev, task: t})
}

// syncQuery ends a Query whose own message was not sent: the client is owed the
// ReadyForQuery of its transaction.
func (ss *session) syncQuery() error {
	ss.mu.Lock()
	ss.runs++ // see pushSync
	ss.batch = batch{}
	ss.mu.Unlock()
	return ss.send(wire.AppendEmpty(nil, wire.Sync), owed{kind: oweSync})
}
