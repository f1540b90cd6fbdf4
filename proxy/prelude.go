// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

var errCanceled = &sqlError{code: stateCanceled, message: "canceling statement due to user request"}

// errGivenUp is the same for what the core has recorded.
var errGivenUp = &sqlError{code: stateCanceled, message: errCanceled.message, noted: true}

// errAnswered stands for an error of the server's that the client has got.
var errAnswered = &sqlError{message: "answered by the server"}

// A prelude is what the node executes in front of a client's message, in the
// very transaction in which that message will run: no Sync is sent. Guarded by
// the session's mu.
type prelude struct {
	rows   [][][]byte // by group, the fields of its one row
	done   bool
	failed bool

	groups    []lockGroup // nil: of a question of the node's own
	statement uint64      // the fingerprint of what it is for
	told      bool        // the server has told why it refuses
}

// lockGroup is one vault.next_version or vault.verify_begin.
type lockGroup struct {
	fn    rewrite.Func
	name  string
	calls []int
}

// groups gathers the calls by action and name, in byte order of the names: two
// clients that lock the same names lock them in the same order.
func (as args) groups() []lockGroup {
	var gs []lockGroup
	for i, a := range as {
		j := slices.IndexFunc(gs, func(g lockGroup) bool { return g.fn == a.fn && g.name == a.name && a.fn != rewrite.Verify })
		if j < 0 {
			gs = append(gs, lockGroup{fn: a.fn, name: a.name})
			j = len(gs) - 1
		}
		gs[j].calls = append(gs[j].calls, i)
	}
	slices.SortStableFunc(gs, func(a, b lockGroup) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.fn, b.fn))
	})
	return gs
}

var lockActions = map[rewrite.Func]string{rewrite.Put: "put", rewrite.Create: "create", rewrite.Rotate: "rotate"}

// lock reserves the versions and returns what goes in place of each value.
func (ss *session) lock(as args) ([][]byte, *sqlError, error) {
	gs := as.groups()
	pre := &prelude{rows: make([][][]byte, len(gs)), groups: gs, statement: ss.asked.statement}
	var msgs []byte
	var entries []owed
	for i, g := range gs {
		msgs, entries = ss.appendPrelude(msgs, entries, pre, g, i)
	}
	begun := time.Now()
	if err := ss.send(wire.AppendEmpty(msgs, wire.Flush), entries...); err != nil {
		return nil, nil, err
	}
	ss.mu.Lock()
	err := ss.wait(func() bool { return pre.done || pre.failed })
	failed := pre.failed
	ss.batch.open = true
	ss.mu.Unlock()
	ss.srv.metrics.lock.Observe(time.Since(begun).Seconds())
	switch {
	case err != nil:
		return nil, nil, err
	case failed:
		return nil, errAnswered, nil
	}
	values := make([][]byte, len(as))
	for i, g := range gs {
		if e := ss.fill(values, as, g, pre.rows[i]); e != nil && e.fatal {
			return nil, nil, e
		} else if e != nil {
			return nil, e, nil
		}
	}
	return values, nil, nil
}

// encodingNow is client_encoding at the place of the pipeline where the client's
// message will run: the server reports a change only with ReadyForQuery.
const encodingNow = "pg_catalog.current_setting('client_encoding')"

// reservedChanges are the numbers under which the server will note what is reserved:
// an extension older than 1.7 does not say them.
const reservedChanges = "pg_catalog.to_jsonb(n) OPERATOR(pg_catalog.->>) 'changes'"

// appendPrelude appends one group's messages. The statement and portal carry a
// name of the session's own: the client's unnamed ones survive. It is closed
// first because after an error the server skips the Close behind it.
func (ss *session) appendPrelude(msgs []byte, entries []owed, pre *prelude, g lockGroup, n int) ([]byte, []owed) {
	msgs = wire.AppendClose(msgs, 'S', ss.own)
	if g.fn == rewrite.Verify {
		msgs = wire.AppendParse(msgs, ss.own, "SELECT pg_catalog.encode(challenge, 'hex'), records, "+encodingNow+" FROM vault.verify_begin($1)", wire.OIDText)
		msgs = wire.AppendBind(msgs, ss.own, ss.own, []byte(g.name))
	} else {
		msgs = wire.AppendParse(msgs, ss.own, "SELECT secret_id, first, "+encodingNow+", "+reservedChanges+" FROM vault.next_version($1, $2, $3) n", wire.OIDText, wire.OIDInt4, wire.OIDText)
		msgs = wire.AppendBind(msgs, ss.own, ss.own, []byte(g.name), strconv.AppendInt(nil, int64(len(g.calls)), 10), []byte(lockActions[g.fn]))
	}
	msgs = wire.AppendExecute(msgs, ss.own)
	msgs = wire.AppendClose(msgs, 'P', ss.own)
	msgs = wire.AppendClose(msgs, 'S', ss.own)
	t := &task{swallow: true, pre: pre, group: n}
	end := &task{swallow: true, pre: pre, group: n, last: n == len(pre.rows)-1}
	return msgs, ss.oweQuestion(entries, t, end)
}

// oweQuestion adds what is owed for a query of the node's own, message by message.
func (ss *session) oweQuestion(entries []owed, t, end *task) []owed {
	return append(entries,
		owed{kind: oweClose, named: true, task: t}, owed{kind: oweParse, named: true, task: t},
		owed{kind: oweBind, named: true, portal: &portal{name: ss.own}, task: t}, owed{kind: oweExecute, named: true, portal: &portal{}, task: t},
		owed{kind: oweClose, named: true, task: t}, owed{kind: oweClose, named: true, task: end})
}

// fill makes the texts of one group from the server's row.
func (ss *session) fill(values [][]byte, as args, g lockGroup, row [][]byte) *sqlError {
	if len(row) < 3 {
		return errReport
	}
	for _, i := range g.calls {
		if !readable(string(row[2]), as[i].value) {
			return errEncoding
		}
	}
	if g.fn == rewrite.Verify {
		return ss.fillVerify(values, as, g, row)
	}
	first, err := strconv.ParseInt(string(row[1]), 10, 32)
	if err != nil {
		return &sqlError{code: stateSystem, message: "the vault's extension returned an invalid version"}
	}
	changes, ok := reserved(row[3:], len(g.calls))
	if !ok {
		return errReport
	}
	ctx := ss.operate(opFront)
	defer ss.operated(opFront)
	for n, i := range g.calls {
		ss.about(g.fn, g.name)
		text, err := ss.srv.cfg.Vault.Seal(as[i].key, g.name, string(row[0]), int32(first)+int32(n), as[i].value)
		if err != nil {
			return ss.fromVault(err)
		}
		if err := ss.srv.cfg.Vault.NoteSealed(ctx, ss.who(ss.asked.statement), functionActions[g.fn.String()], g.name, int32(first)+int32(n), changes[n]); err != nil {
			return ss.fromVault(err)
		}
		ss.noteSealed(changes[n])
		values[i] = text
	}
	return nil
}

// reserved reads the numbers of n changes; 0 for each that the server has not said.
func reserved(field [][]byte, n int) (changes []int64, ok bool) {
	changes = make([]int64, n)
	if len(field) == 1 && field[0] == nil {
		return changes, true
	}
	var said []int64
	if len(field) != 1 || json.Unmarshal(field[0], &said) != nil || len(said) != n {
		return nil, false
	}
	copy(changes, said)
	return changes, !slices.ContainsFunc(changes, func(c int64) bool { return c < 1 })
}

// fillVerify opens the candidates and answers the challenge; the value itself
// leaves the node in no form.
func (ss *session) fillVerify(values [][]byte, as args, g lockGroup, row [][]byte) *sqlError {
	ctx := ss.operate(opFront)
	defer ss.operated(opFront)
	for _, i := range g.calls {
		ss.about(g.fn, g.name)
		version, err := ss.srv.cfg.Vault.Match(ctx, ss.opener(ss.asked.statement), g.name, textArray(row[1]), as[i].value)
		if err != nil {
			if ctx.Err() != nil {
				return errGivenUp
			}
			return ss.fromVault(err)
		}
		text := append([]byte("hvv1."), row[0]...)
		values[i] = strconv.AppendInt(append(text, '.'), int64(version), 10)
	}
	return nil
}
