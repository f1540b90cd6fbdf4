// SPDX-License-Identifier: GPL-3.0-or-later

package history

import "time"

// A tale is a record made by hand: its operations follow one another, unless a
// test moves one.
type tale struct {
	ops   []*Op
	rules Rules
	final Final
}

const (
	step = 10 * time.Millisecond // from one operation to the next
	long = 8 * time.Millisecond  // that one takes
)

// at is the beginning of the i-th operation.
func at(i int) time.Duration { return time.Duration(i) * step }

func (t *tale) add(session int, kind Kind, name string) *Op {
	begin := at(len(t.ops))
	op := &Op{
		ID: len(t.ops) + 1, Client: session / 10, Session: session, Node: "n1", Kind: kind, Name: name,
		Begin: begin, End: begin + long, Outcome: OK,
	}
	t.ops = append(t.ops, op)
	return op
}

func (t *tale) put(session int, name, value string, version int) *Op {
	op := t.add(session, Put, name)
	op.Value, op.Version = value, version
	return op
}

func (t *tale) update(session int, name, description string) *Op {
	op := t.add(session, Update, name)
	op.Description = description
	return op
}

func (t *tale) remove(session int, name string) *Op { return t.add(session, Delete, name) }

func (t *tale) read(session int, name, value string, version int) *Op {
	op := t.add(session, Read, name)
	op.Value, op.Version, op.Missing = value, version, value == ""
	return op
}

// ask reads one version, while another is the current one.
func (t *tale) ask(session int, name string, asked int, value string, version int) *Op {
	op := t.read(session, name, value, version)
	op.Asked = asked
	return op
}

func (t *tale) set(session int, s Settings) *Op {
	op := t.add(session, Set, "")
	op.Set = &s
	return op
}

// outcome says what came of an operation that did not go well.
func (o *Op) outcome(outcome Outcome, state string) *Op {
	o.Outcome, o.SQLSTATE, o.Error = outcome, state, "by hand"
	if o.Kind != Read {
		o.Version = 0
	}
	return o
}

// during makes an operation begin and end with the i-th and k-th.
func (o *Op) during(i, k int) *Op {
	o.Begin, o.End = at(i), at(k)+long
	return o
}

func (t *tale) check() *Report {
	ops := make([]Op, len(t.ops))
	for i, op := range t.ops {
		ops[i] = *op
	}
	return Check(ops, t.rules, t.final)
}

// values are those of versions from 1.
func values(texts ...string) map[int]string {
	m := map[int]string{}
	for i, text := range texts {
		m[i+1] = text
	}
	return m
}

// holding is a final state of one secret, a.
func holding(s Secret) Final { return Final{"a": s} }
