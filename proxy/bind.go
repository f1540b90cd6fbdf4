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

// bound is a Bind taken apart; its slices alias the message.
type bound struct {
	portal, stmt []byte
	formats      []byte // two bytes each
	params       [][]byte
	results      []byte // the result formats, as sent
}

// slowBind seals the values of one execution.
func (ss *session) slowBind(body []byte) (verdict, error) {
	b, ok := parseBind(body)
	if !ok {
		ss.asked = asks("", 0)
		return drop, ss.refuseExtended(errMalformed)
	}
	state, skipped, err := ss.settle()
	if err != nil || skipped {
		return drop, err
	}
	ss.mu.Lock()
	st, sealed := ss.bindTarget(b.stmt)
	var unready *sqlError
	if st != nil {
		unready = ss.auditReady(st.plan)
	}
	if !sealed && unready == nil {
		ss.pushBind(b.portal, b.stmt, st)
	}
	ss.mu.Unlock()
	if st != nil && st.plan != nil {
		ss.asked = asksFor(st.plan, nil)
	}
	switch {
	case unready != nil:
		return drop, ss.refuseExtended(unready)
	case !sealed:
		return pass, nil
	}
	if e := b.check(st, state); e != nil {
		return drop, ss.refuseExtended(e)
	}
	args, failed := ss.boundArgs(st, b)
	defer args.zero()
	if failed == nil && !ss.utf8(args) {
		failed = errEncoding
	}
	if failed != nil {
		return drop, ss.refuseExtended(failed)
	}
	if failed := ss.keys(args); failed != nil {
		return drop, ss.refuseExtended(failed)
	}
	values, failed, err := ss.lock(args)
	switch {
	case err != nil:
		return drop, err
	case failed == errAnswered:
		ss.mu.Lock()
		ss.skip = true
		ss.mu.Unlock()
		return drop, nil
	case failed != nil:
		return drop, ss.refuseExtended(failed)
	}
	return drop, ss.sendBind(st, b, values)
}

// check says why a statement cannot be run with these parameters, in the server's
// words.
func (b *bound) check(st *statement, state byte) *sqlError {
	if st == nil || st.lost { // an error answered meanwhile took the statement back
		return &sqlError{
			code: stateNoStatement, message: fmt.Sprintf("prepared statement %q does not exist", b.stmt),
			detail: "Its Parse was skipped after an error, or it was dropped with all others; the values of this Bind were not sent.",
		}
	}
	if len(b.params) != st.own {
		return &sqlError{
			code:    stateProtocol,
			message: fmt.Sprintf("bind message supplies %d parameters, but prepared statement %q requires %d", len(b.params), st.name, st.own),
		}
	}
	if n := len(b.formats) / 2; n > 1 && n != st.own {
		return &sqlError{
			code:    stateProtocol,
			message: fmt.Sprintf("bind message has %d parameter formats but %d parameters", n, st.own),
		}
	}
	if state == wire.InFailed {
		return failedBlock
	}
	return nil
}

// boundArgs reads the calls of one execution: names and values come from the
// parameters or from the statement's text.
func (ss *session) boundArgs(st *statement, b bound) (args, *sqlError) {
	as := make(args, 0, len(st.plan.Calls))
	for i, c := range st.plan.Calls {
		ss.about(c.Func, c.Name.Text)
		a := arg{fn: c.Func, name: c.Name.Text}
		if c.Name.Mode == rewrite.Param {
			p := b.params[c.Name.Param-1]
			if p == nil {
				return as, &sqlError{code: stateNullValue, message: "the name of a secret must not be null"}
			}
			a.name = string(p)
		}
		if e := checkKind(c, b); e != nil {
			return as, e
		}
		switch c.Value.Mode {
		case rewrite.Const:
			a.value = bytes.Clone(st.values[i])
		case rewrite.Param:
			a.value = bytes.Clone(b.params[c.Value.Param-1])
		case rewrite.Absent, rewrite.Null, rewrite.Generated: // made below
		}
		if a.value == nil && (c.Func == rewrite.Create || c.Func == rewrite.Rotate) {
			a.value = ss.srv.cfg.Vault.GenerateValue()
		}
		if a.value == nil {
			return as, &sqlError{code: stateNullValue, message: "the value must not be null"}
		}
		as = append(as, a)
	}
	return as, ss.checkArgs(as)
}

var errEncoding = &sqlError{code: stateFeature, reason: "encoding", message: "values can be stored only while client_encoding is UTF8", hint: "SET client_encoding = 'UTF8'"}

// utf8 reports whether the values are in UTF-8 by the session's client_encoding
// as last reported.
func (ss *session) utf8(as args) bool {
	ss.mu.Lock()
	encoding := ss.encoding
	ss.mu.Unlock()
	return !slices.ContainsFunc(as, func(a arg) bool { return !readable(encoding, a.value) })
}

// readable reports whether a value that a client sent under client_encoding is in
// UTF-8 by that, and not by chance only.
func readable(encoding string, value []byte) bool {
	switch encoding {
	case "", "UTF8", "SQL_ASCII":
		return true
	}
	return !slices.ContainsFunc(value, func(b byte) bool { return b >= 0x80 })
}

// checkKind refuses a kind that create_secret does not have: with supabase's
// vault the value stands there.
func checkKind(c rewrite.Call, b bound) *sqlError {
	if c.Func != rewrite.Create || c.Kind.Mode != rewrite.Param {
		return nil
	}
	switch string(b.params[c.Kind.Param-1]) {
	case "manual", "automatic":
		return nil
	}
	return &sqlError{
		code: stateParameter, message: "kind must be manual or automatic",
		hint: "The order is name, kind, value; supabase/vault's is value, name.",
	}
}

// sendBind sends a Bind with the sealed texts in place of the values. A single
// format code goes on to hold for all parameters: text types have the same
// bytes in both formats.
func (ss *session) sendBind(st *statement, b bound, values [][]byte) error {
	for i, c := range st.plan.Calls {
		if c.Value.Mode == rewrite.Param {
			b.params[c.Value.Param-1] = values[i]
		}
	}
	for _, call := range st.calls {
		b.params = append(b.params, values[call])
	}
	msg, mark := wire.Begin(nil, wire.Bind)
	msg = append(append(msg, b.portal...), 0)
	msg = append(append(msg, b.stmt...), 0)
	formats := len(b.formats) / 2
	if formats > 1 {
		formats += len(st.calls)
	}
	msg = binary.BigEndian.AppendUint16(msg, uint16(formats)) //nolint:gosec // at most 65,535
	msg = append(msg, b.formats...)
	for range formats - len(b.formats)/2 {
		msg = append(msg, 0, 0)
	}
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(b.params))) //nolint:gosec // at most 65,535
	for _, p := range b.params {
		msg = wire.AppendParam(msg, p)
	}
	msg = append(msg, b.results...)
	if len(msg)-mark > ss.srv.grown {
		return ss.refuseExtended(&sqlError{code: stateLimit, message: "the parameters are too long once the values are sealed"})
	}
	ss.smu.Lock()
	defer ss.smu.Unlock()
	ss.mu.Lock()
	ss.spoilTrial()
	ss.pushBind(b.portal, b.stmt, st)
	ss.mu.Unlock()
	_, err := ss.server().Write(wire.End(msg, mark))
	return err
}
