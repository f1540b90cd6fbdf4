// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"time"
)

// maxLine is more than any line of an export has.
const maxLine = 64 << 10

// Whatever is wrong with a line.
var (
	errSpelling = errors.New("it is not a line of an export, or another one than an export has there")
	errBroken   = errors.New("the export is not whole: it has no end")
)

// ReadExport begins to read what Export has written: up to the heads. The evidence
// reads on as its rows and then its changes are asked for, once. Memory is bounded,
// and a line is taken only in the spelling that Export gives it: no two readers see
// different things in it.
func ReadExport(from io.Reader) (*Evidence, error) {
	r := &importer{from: bufio.NewReaderSize(from, maxLine)}
	first, err := r.next()
	if err != nil {
		return nil, err
	}
	if first.evidence == nil {
		return nil, r.wrong(errSpelling)
	}
	e := first.evidence
	for {
		if r.ahead, err = r.next(); err != nil {
			return nil, err
		}
		if r.ahead.head == nil {
			break
		}
		if len(e.Heads) == MaxHeads {
			return nil, r.wrong(fmt.Errorf("there are more than %d heads", MaxHeads))
		}
		e.Heads = append(e.Heads, *r.ahead.head)
	}
	r.heads = len(e.Heads)
	changes := e.Changes != nil
	e.Rows = r.records(!changes)
	if changes {
		e.Changes = r.changesSeq()
	}
	return e, nil
}

// importer reads lines.
type importer struct {
	from   *bufio.Reader
	number int
	ahead  *exportLine // was read and is next
	again  []byte      // a line as it should be spelled

	heads, rows, changes int
}

func (r *importer) wrong(err error) error { return fmt.Errorf("line %d: %w", r.number, err) }

// records reads rows; last: nothing but the end comes behind them.
func (r *importer) records(last bool) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for ; r.ahead.row != nil; r.rows++ {
			if !yield(*r.ahead.row, nil) || !r.step(func(err error) { yield(Row{}, err) }) {
				return
			}
		}
		if last {
			r.finish(func(err error) { yield(Row{}, err) })
		}
	}
}

func (r *importer) changesSeq() iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		for ; r.ahead.change != nil; r.changes++ {
			if !yield(*r.ahead.change, nil) || !r.step(func(err error) { yield(Change{}, err) }) {
				return
			}
		}
		r.finish(func(err error) { yield(Change{}, err) })
	}
}

// step reads the next line, or tells why it cannot.
func (r *importer) step(tell func(error)) bool {
	line, err := r.next()
	if err != nil {
		tell(err)
		return false
	}
	r.ahead = line
	return true
}

// finish sees that what was read is all that was written.
func (r *importer) finish(tell func(error)) {
	if r.ahead.end == nil || !bytes.Equal(r.ahead.end, appendEnd(nil, r.heads, r.rows, r.changes)) {
		tell(r.wrong(errSpelling))
	} else if _, err := r.from.ReadByte(); err == nil {
		tell(r.wrong(errors.New("something is behind the end")))
	} else if !errors.Is(err, io.EOF) {
		tell(err)
	}
}

// next reads a line.
func (r *importer) next() (*exportLine, error) {
	r.number++
	line, err := r.from.ReadSlice('\n')
	switch {
	case errors.Is(err, io.EOF):
		return nil, r.wrong(errBroken)
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, r.wrong(errSpelling)
	case err != nil:
		return nil, r.wrong(err)
	}
	l, err := parseLine(line, r.again[:0])
	if err != nil {
		return nil, r.wrong(err)
	}
	r.again = l.spelled
	return l, nil
}

// exportLine is a line of an export: one of these.
type exportLine struct {
	evidence *Evidence // the first line: Changes is not nil if there are any
	head     *Head
	row      *Row
	change   *Change
	end      []byte

	spelled []byte
}

// members are those of any line.
type members struct {
	Kind, Node, Prev, Hash, Actor, Addr, Face, Database, Action, Secret, Outcome, Reason string
	Statement, Key, Signature, Subject                                                   string

	At          string
	SessionRole string `json:"session_role"`
	CurrentRole string `json:"current_role"`
	SecretID    string `json:"secret_id"`
	Seq         uint64
	Version     int32
	Direct      bool
	Change      int64
	ID          int64
	Format      uint64
	WithChanges bool `json:"with_changes"`
	Heads       int
	Records     int
	Changes     int
}

// parseLine reads a line, and refuses another spelling than again, in whose memory
// it is spelled.
func parseLine(line, again []byte) (*exportLine, error) {
	var m members
	if json.Unmarshal(line, &m) != nil {
		return nil, errSpelling
	}
	l := &exportLine{}
	var err error
	switch m.Kind {
	case kindExport:
		l.evidence, err = m.evidence()
		if err == nil {
			l.spelled = l.evidence.appendJSON(again)
		}
	case kindHead:
		l.head, err = m.head()
		if err == nil {
			l.spelled = l.head.appendJSON(again)
		}
	case kindRecord:
		l.row, err = m.row()
		if err == nil {
			l.spelled = l.row.AppendJSON(again)
		}
	case kindChange:
		l.change, err = m.change()
		if err == nil {
			l.spelled = l.change.appendJSON(again)
		}
	case kindEnd:
		l.spelled = appendEnd(again, m.Heads, m.Records, m.Changes)
		l.end = bytes.Clone(l.spelled)
	default:
		err = errSpelling
	}
	if err == nil && !bytes.Equal(l.spelled, line) {
		err = errSpelling
	}
	return l, err
}

func (m *members) evidence() (*Evidence, error) {
	at, err := parseTime(m.At)
	if err != nil || m.Format != exportFormat {
		return nil, fmt.Errorf("%w (format %d is known)", errSpelling, exportFormat)
	}
	e := &Evidence{At: at}
	if m.WithChanges {
		e.Changes = func(func(Change, error) bool) {} // see ReadExport
	}
	return e, nil
}

func (m *members) head() (*Head, error) {
	h := &Head{Position: Position{Seq: m.Seq}}
	var err error
	if h.Node, err = ParseNodeID(m.Node); err != nil {
		return nil, errSpelling
	}
	if h.At, err = parseTime(m.At); err != nil {
		return nil, errSpelling
	}
	if !fill(h.Hash[:], m.Hash) || !fill(h.Key[:], m.Key) || !fill(h.Signature[:], m.Signature) {
		return nil, errSpelling
	}
	return h, nil
}

func (m *members) row() (*Row, error) {
	r := &Row{Seq: m.Seq, Record: Record{
		Actor: m.Actor, SessionRole: m.SessionRole, Face: Face(m.Face), Database: m.Database, Action: Action(m.Action), Secret: m.Secret,
		Version: m.Version, Outcome: Outcome(m.Outcome), Direct: m.Direct, Reason: m.Reason, Change: m.Change,
	}}
	var err error
	if r.Node, err = ParseNodeID(m.Node); err != nil {
		return nil, errSpelling
	}
	if r.At, err = parseTime(m.At); err != nil {
		return nil, errSpelling
	}
	if m.Addr != "" {
		if r.Addr, err = netip.ParseAddr(m.Addr); err != nil {
			return nil, errSpelling
		}
	}
	if m.Statement != "" {
		var b [8]byte
		if !fill(b[:], m.Statement) {
			return nil, errSpelling
		}
		r.Statement = binary.BigEndian.Uint64(b[:])
	}
	if !fill(r.Prev[:], m.Prev) || !fill(r.Hash[:], m.Hash) {
		return nil, errSpelling
	}
	return r, nil
}

func (m *members) change() (*Change, error) {
	at, err := parseTime(m.At)
	return &Change{
		ID: m.ID, At: at, Action: m.Action, Subject: m.Subject, SecretID: m.SecretID, Version: m.Version,
		SessionRole: m.SessionRole, CurrentRole: m.CurrentRole,
	}, err
}

// parseTime reads a time; an empty one is none.
func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	return time.Parse(exportTime, s)
}

// fill reads as many digits as there is room for.
func fill(b []byte, digits string) bool {
	if len(digits) != hex.EncodedLen(len(b)) {
		return false
	}
	_, err := hex.Decode(b, []byte(digits))
	return err == nil
}
