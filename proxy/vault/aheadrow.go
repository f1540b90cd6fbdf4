// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// A row reads a composite value in the server's binary form: how many columns, and of
// each its type, its length and so many bytes. What is not as it should be makes it
// bad, and empty from then on.
type row struct {
	rest []byte
	bad  bool
}

func (r *row) fail() { r.rest, r.bad = nil, true }

func (r *row) number() int {
	if len(r.rest) < 4 {
		r.fail()
		return 0
	}
	n := int32(binary.BigEndian.Uint32(r.rest)) //nolint:gosec // a signed one, as it is sent
	r.rest = r.rest[4:]
	return int(n)
}

// value is what has its length in front; nil: NULL. It is part of what is read.
func (r *row) value() []byte {
	n := r.number()
	if n < 0 || n > len(r.rest) {
		if n != -1 {
			r.fail()
		}
		return nil
	}
	v := r.rest[:n:n]
	r.rest = r.rest[n:]
	return v
}

func (r *row) column() []byte {
	r.number() // its type, which the statement has said
	return r.value()
}

// tokenRead is a row of vault.token_read().
type tokenRead struct {
	token, role, admin, rules, record, created, kind []byte // nil: NULL
}

var errRow = errors.New("vault.token_read() returned what this node cannot read")

func parseTokenRead(b []byte) (t tokenRead, err error) {
	r := row{rest: b}
	into := [...]*[]byte{&t.token, &t.role, &t.admin, &t.rules, &t.record, &t.created, &t.kind}
	if r.number() != len(into) {
		return tokenRead{}, errRow
	}
	for _, column := range into {
		*column = r.column()
	}
	if r.bad || len(r.rest) > 0 || t.admin != nil && len(t.admin) != 1 || t.created != nil && len(t.created) != 8 {
		return tokenRead{}, errRow
	}
	return t, nil
}

// parseRules reads an array of pairs, in the server's binary form.
func parseRules(b []byte) (rules, error) {
	r := row{rest: b}
	dimensions := r.number()
	r.number() // whether it has NULLs, which are seen
	r.number() // of what it is
	if dimensions == 0 && !r.bad {
		return nil, nil
	}
	n := r.number()
	r.number() // where it begins
	pair := r.number()
	r.number()
	if r.bad || dimensions != 2 || pair != 2 || n < 0 || n > len(r.rest)/8 {
		return nil, errRules
	}
	out := make(rules, n)
	for i := range out {
		action, pattern := r.value(), r.value()
		if action == nil || pattern == nil {
			return nil, errRules
		}
		out[i] = rule{string(action), string(pattern)}
	}
	if r.bad || len(r.rest) > 0 {
		return nil, errRules
	}
	return out, nil
}

// parseTime reads a timestamptz: microseconds since the year 2000. false: it is
// infinite.
func parseTime(b []byte) (time.Time, bool) {
	const year2000 = 946684800
	us := int64(binary.BigEndian.Uint64(b)) //nolint:gosec // a signed one, as it is sent
	if us == math.MaxInt64 || us == math.MinInt64 {
		return time.Time{}, false
	}
	return time.Unix(year2000+us/1e6, us%1e6*1e3), true
}
