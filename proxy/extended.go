// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// refuseExtended answers a message of the extended protocol in the server's
// place. With nothing of the batch at the server and no transaction open, it
// hears nothing of it; else something that fails goes in the message's place.
// The client's messages are dropped up to its Sync.
func (ss *session) refuseExtended(e *sqlError) error {
	ss.refused(e)
	ss.mu.Lock()
	err := ss.awaitReady()
	quiet := ss.quiet() && ss.state == wire.Idle
	skipping := ss.queue.skipping
	ss.skip = true
	ss.mu.Unlock()
	switch {
	case err != nil || skipping:
		return err
	case quiet:
		return ss.local(e.append(nil))
	}
	return ss.poisonBatch(&task{fail: e})
}

// errMalformed answers a message of the extended protocol that may hold a value
// and cannot be taken apart, with the server's words.
var errMalformed = &sqlError{code: stateProtocol, message: "invalid message format"}

// slowParse handles a Parse whose text mentions the vault.
func (ss *session) slowParse(body []byte) (verdict, error) {
	end := bytes.IndexByte(body, 0)
	if end < 0 {
		return again, nil
	}
	name := string(cutName(body[:end]))
	text, types, ok := parseBody(body[end+1:])
	if !ok {
		return drop, ss.refuseParse(name, errMalformed)
	}
	skipped, err := ss.settleParse(len(text))
	ss.mu.Lock()
	settled := !ss.batch.executed
	if skipped {
		ss.loseText(wire.Parse, body)
	}
	ss.mu.Unlock()
	if err != nil || skipped {
		return drop, err
	}
	route := rewrite.RouteLocal
	if name != "" {
		route = ss.routeOf(text, true)
	}
	if !ss.mentions(text) {
		return pass, ss.pushPlainParse(body, text, route)
	}
	o := ss.options(true, settled)
	o.ParamTypes = types
	plan, refused := ss.analyse(text, o)
	if refused != nil {
		return drop, ss.refuseParse(name, refused)
	}
	if plan == nil {
		return pass, ss.pushPlainParse(body, text, route)
	}
	st := &statement{name: name, plan: plan, utility: plan.Utility, own: max(len(types), plan.NumParams), route: route}
	spliced, calls := plan.SpliceParse(nil, text, st.own)
	st.calls = calls
	if st.own+len(calls) > 65535 {
		return drop, ss.refuseParse(name, &sqlError{
			code: stateLimit, message: "too many parameters",
			detail: fmt.Sprintf("The statement has %d, and a node adds one for each literal value.", st.own),
		})
	}
	if e := st.keepValues(plan, text); e != nil {
		return drop, ss.refuseParse(name, e)
	}
	if st.puts() {
		ss.mu.Lock()
		e := ss.keepable(st)
		ss.mu.Unlock()
		if e != nil {
			st.zero()
			return drop, ss.refuseParse(name, e)
		}
	}
	return drop, ss.sendParse(st, text, spliced, types)
}

// refuseParse refuses a Parse. The client may pipeline a Bind of its name.
func (ss *session) refuseParse(name string, e *sqlError) error {
	ss.mu.Lock()
	ss.lose([]byte(name))
	ss.mu.Unlock()
	return ss.refuseExtended(e)
}

// maxUnanswered bounds the texts that are kept because their Parses are not
// answered: PostgreSQL answers when it is asked to, or has 8 KiB of answers.
const maxUnanswered = 1 << 20

// settleParse waits until settings are known, and texts answered that are more than
// a session may have kept beside one of that size: nothing of an earlier batch is
// outstanding. skipped says that the batch has failed.
func (ss *session) settleParse(size int) (skipped bool, err error) {
	ss.mu.Lock()
	err = ss.awaitReady()
	skipped = ss.queue.skipping
	if ss.unanswered += size; ss.queue.len() == 0 {
		ss.unanswered = size
	}
	tooMuch := ss.unanswered > maxUnanswered && ss.unanswered > size
	if tooMuch {
		ss.unanswered = size
	}
	ss.mu.Unlock()
	if err == nil && tooMuch {
		_, skipped, err = ss.settle()
	}
	return skipped, err
}

// pushPlainParse notes a Parse that was looked into and passes after all.
func (ss *session) pushPlainParse(body []byte, text string, route rewrite.Route) error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.batch.open = true
	if ss.queue.skipping { // since it was looked into: the name keeps its meaning
		return nil
	}
	name, _, _ := bytes.Cut(body, []byte{0})
	if len(name) == 0 {
		ss.keepUnnamed(body)
	}
	if ss.namesDirect([]byte(text)) {
		ss.pushParse(&statement{name: string(cutName(name)), utility: true, direct: true, route: route})
		return nil
	}
	ss.pushPlain(cutName(name), []byte(text))
	if st := ss.stmts[string(cutName(name))]; st != nil && len(name) > 0 {
		st.route = route
	}
	return nil
}

// mentions is concerns for the front while it holds no lock.
func (ss *session) mentions(text string) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.concerns([]byte(text))
}

// keepValues decodes the literal values of a text, to be sealed anew at each
// Bind. They are zeroed with the statement.
func (st *statement) keepValues(plan *rewrite.Plan, text string) *sqlError {
	st.values = make([][]byte, len(plan.Calls))
	for i, c := range plan.Calls {
		if c.Value.Mode != rewrite.Const {
			continue
		}
		v, err := plan.DecodeValue(nil, text, i)
		if err != nil {
			st.zero()
			return &sqlError{code: stateParameter, message: "the value's literal cannot be read"}
		}
		st.values[i] = v
	}
	return nil
}

func (ss *session) sendParse(st *statement, sql string, text []byte, types []uint32) error {
	all := slices.Clone(types)
	if len(st.calls) > 0 {
		for len(all) < st.own {
			all = append(all, 0)
		}
		for range st.calls {
			all = append(all, wire.OIDText)
		}
	}
	msg, mark := wire.Begin(make([]byte, 0, len(text)+64), wire.Parse)
	msg = append(wire.AppendString(msg, st.name), text...)
	msg = binary.BigEndian.AppendUint16(append(msg, 0), uint16(len(all))) //nolint:gosec // at most 65,535
	for _, t := range all {
		msg = binary.BigEndian.AppendUint32(msg, t)
	}
	ss.smu.Lock()
	defer ss.smu.Unlock()
	ss.mu.Lock()
	if ss.queue.skipping { // since it was looked into
		ss.lose([]byte(st.name))
		ss.mu.Unlock()
		st.zero()
		return nil
	}
	msg = wire.End(msg, mark)
	if st.puts() {
		ss.spoilTrial()
	} else {
		ss.keepTrial(msg)
	}
	if st.name == "" {
		ss.keepUnnamed(msg[mark+4:]) // without its length
	}
	st.direct = ss.namesDirect([]byte(sql))
	e := ss.parsed(st)
	e.task = &task{plan: st.plan, sql: sql, sent: rewrite.Sent{Extended: true, OwnBase: st.own, SingleByte: ss.singleByte}}
	ss.keepNames(st.plan)
	ss.queue.push(e)
	ss.mu.Unlock()
	_, err := ss.server().Write(msg)
	return err
}

// describeAndExecute executes a portal whose shape nobody has asked for: the
// node asks, and keeps the answer.
func (ss *session) describeAndExecute(body []byte) error {
	name, _, _ := bytes.Cut(body, []byte{0})
	name = cutName(name)
	ss.smu.Lock()
	defer ss.smu.Unlock()
	ss.mu.Lock()
	p := ss.portalOf(name)
	e := owed{kind: oweDescribePortal, named: len(name) > 0, stmt: p.stmt, task: &task{swallow: true}}
	if e.named {
		e.portal = p
	}
	p.described, p.seen = true, ss.runs
	ss.queue.push(e)
	ss.pushExecute(p)
	msg := wire.AppendMessage(wire.AppendDescribe(nil, 'P', string(name)), wire.Execute, body)
	ss.keepTrial(msg)
	ss.mu.Unlock()
	_, err := ss.server().Write(msg)
	return err
}
