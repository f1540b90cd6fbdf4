// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"slices"
	"strconv"
	"unicode/utf8"
)

// SpliceQuery appends the text of a simple Query with the value of call i
// replaced by values[i] as a constant. The values are records and answers
// (hv1…, hvv1…), which need no quoting; calls whose value is a parameter take
// none. Everything else stays as it is.
func (p *Plan) SpliceQuery(dst []byte, sql string, values [][]byte) []byte {
	return p.splice(dst, sql, func(dst []byte, o op) []byte {
		dst = append(dst, '\'')
		dst = append(dst, values[o.call]...)
		return append(dst, '\'')
	})
}

// SpliceParse appends the text of a Parse with each constant or generated
// value replaced by a parameter: the first is $(ownBase+1). appended[k] is the
// call whose value is the k-th of them.
func (p *Plan) SpliceParse(dst []byte, sql string, ownBase int) (text []byte, appended []int) {
	text = p.splice(dst, sql, func(dst []byte, o op) []byte {
		appended = append(appended, o.call)
		return appendParam(dst, ownBase+len(appended), sql[o.end:])
	})
	return text, appended
}

// appendParam appends $n, apart from a word that follows: a constant may stand right in
// front of one, as in CAST('v'AS text), a parameter may not since PostgreSQL 15.
func appendParam(dst []byte, n int, next string) []byte {
	dst = strconv.AppendInt(append(dst, '$'), int64(n), 10)
	if next != "" && isIdentStart(next[0]) {
		dst = append(dst, ' ')
	}
	return dst
}

func (p *Plan) splice(dst []byte, sql string, value func([]byte, op) []byte) []byte {
	from := 0
	for _, o := range p.ops {
		dst = append(dst, sql[from:o.start]...)
		if o.call >= 0 {
			dst = append(dst, p.Calls[o.call].Value.Insert...)
			dst = value(dst, o)
		}
		from = o.end
	}
	return append(dst, sql[from:]...)
}

// Sent says in which form a plan's text went to the server.
type Sent struct {
	// Extended: by SpliceParse with OwnBase; else by SpliceQuery with values
	// of these lengths.
	Extended bool
	OwnBase  int
	Lengths  []int
	// Prefix is the number of characters put in front of the text.
	Prefix int
	// SingleByte: the server counts bytes, because server_encoding is
	// SQL_ASCII.
	SingleByte bool
}

// MapPosition turns the position of a server's error, in characters of the
// text it was sent, from 1, into one of the client's own text. A position in a
// replacement becomes the start of what it replaced; one in the prefix is 0,
// no position.
func (p *Plan) MapPosition(sql string, pos int, s Sent) int {
	pos -= s.Prefix + 1
	if pos < 0 {
		return 0
	}
	from, own, added := 0, 0, 0 // byte offset, characters of sql before it, values so far
	for _, o := range p.ops {
		kept := s.count(sql[from:o.start])
		if pos < kept {
			break
		}
		pos -= kept
		own += kept
		n := 0
		if o.call >= 0 {
			added++
			n = len(p.Calls[o.call].Value.Insert) + s.length(o.call, added, sql[o.end:])
		}
		if pos < n {
			return own + 1
		}
		pos -= n
		own += s.count(sql[o.start:o.end])
		from = o.end
	}
	return min(own+pos, s.count(sql)) + 1
}

// length is that of the replacement of a call's value, the nth one, in front of next.
func (s Sent) length(call, nth int, next string) int {
	if s.Extended {
		return len(appendParam(nil, s.OwnBase+nth, next))
	}
	if call < len(s.Lengths) {
		return s.Lengths[call] + 2
	}
	return 0
}

func (s Sent) count(text string) int {
	if s.SingleByte {
		return len(text)
	}
	return utf8.RuneCountInString(text)
}

// makeOps puts removals and replacements in text order.
func (p *Plan) makeOps() {
	for _, e := range p.Edits {
		p.ops = append(p.ops, op{e.Start, e.End, -1})
	}
	for i, c := range p.Calls {
		if c.Value.Mode != Param {
			p.ops = append(p.ops, op{c.Value.Start, c.Value.End, i})
		}
		p.decodes = p.decodes || c.Name.Mode == Const || c.Kind.Mode == Const || c.Value.Mode == Const
	}
	slices.SortFunc(p.ops, func(a, b op) int { return a.start - b.start })
}
