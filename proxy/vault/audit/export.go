// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf16"
)

// An export is lines of JSON, in one spelling: see docs/AUDIT.md. It is ASCII, so
// that no name in it steers a terminal.
const (
	kindExport = "export" // the first line
	kindHead   = "head"
	kindRecord = "record"
	kindChange = "change"
	kindEnd    = "end" // the last line

	exportFormat = 1
	exportTime   = "2006-01-02T15:04:05.000000Z"
)

// Export writes evidence as lines of JSON, which [ReadExport] reads. After an error
// they have no end, and nobody takes them for all there is.
func (e *Evidence) Export(ctx context.Context, to io.Writer) error {
	w := exporter{to: bufio.NewWriterSize(to, 1<<16)}
	w.write(e.appendJSON(nil))
	for i := range e.Heads {
		w.write(e.Heads[i].appendJSON(w.line[:0]))
	}
	for row, err := range e.Rows {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		w.write(row.AppendJSON(w.line[:0]))
		if w.rows++; w.err != nil {
			return w.err
		}
	}
	if e.Changes != nil {
		for c, err := range e.Changes {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return err
			}
			w.write(c.appendJSON(w.line[:0]))
			if w.changes++; w.err != nil {
				return w.err
			}
		}
	}
	w.write(appendEnd(w.line[:0], len(e.Heads), w.rows, w.changes))
	if w.err != nil {
		return w.err
	}
	return w.to.Flush()
}

// exporter writes lines; err stays.
type exporter struct {
	to            *bufio.Writer
	line          []byte
	rows, changes int
	err           error
}

func (w *exporter) write(line []byte) {
	w.line = line
	if w.err == nil {
		_, w.err = w.to.Write(line)
	}
}

// AppendJSON appends the row as an export has it, with a line feed. What no record
// can hold it shows as a row without a time, which is nobody's record either.
func (r *Row) AppendJSON(b []byte) []byte {
	at := r.At
	if !r.withheld() && r.check() != nil {
		at = time.Time{}
	}
	o := open(b, kindRecord)
	o.text("node", r.Node.String())
	o.number("seq", r.Seq)
	o.text("prev", r.Prev.String())
	o.text("hash", r.Hash.String())
	o.at(at)
	o.text("actor", r.Actor)
	o.text("session_role", r.SessionRole)
	if r.Addr.IsValid() {
		o.text("addr", r.Addr.String())
	}
	o.text("face", string(r.Face))
	o.text("database", r.Database)
	o.text("action", string(r.Action))
	o.text("secret", r.Secret)
	o.signed("version", int64(r.Version))
	o.text("outcome", string(r.Outcome))
	o.truth("direct", r.Direct)
	o.text("reason", r.Reason)
	o.signed("change", r.Change)
	if r.Statement != 0 {
		o.text("statement", fmt.Sprintf("%016x", r.Statement))
	}
	return o.close()
}

func (h *Head) appendJSON(b []byte) []byte {
	o := open(b, kindHead)
	o.text("node", h.Node.String())
	o.number("seq", h.Seq)
	o.text("hash", h.Hash.String())
	o.at(h.At)
	o.text("key", hex.EncodeToString(h.Key[:]))
	o.text("signature", hex.EncodeToString(h.Signature[:]))
	return o.close()
}

func (c *Change) appendJSON(b []byte) []byte {
	o := open(b, kindChange)
	o.signed("id", c.ID)
	o.at(c.At)
	o.text("action", c.Action)
	o.text("subject", c.Subject)
	o.text("secret_id", c.SecretID)
	o.signed("version", int64(c.Version))
	o.text("session_role", c.SessionRole)
	o.text("current_role", c.CurrentRole)
	return o.close()
}

// appendJSON appends what comes before all others.
func (e *Evidence) appendJSON(b []byte) []byte {
	o := open(b, kindExport)
	o.number("format", exportFormat)
	o.at(e.At)
	o.truth("with_changes", e.Changes != nil)
	return o.close()
}

func appendEnd(b []byte, heads, rows, changes int) []byte {
	o := open(b, kindEnd)
	o.signed("heads", int64(heads))
	o.signed("records", int64(rows))
	o.signed("changes", int64(changes))
	return o.close()
}

// object is a line that is being written. Members that are empty are left out.
type object struct{ b []byte }

func open(b []byte, kind string) object {
	return object{appendString(append(b, `{"kind":`...), kind)}
}

func (o *object) close() []byte { return append(o.b, "}\n"...) }

func (o *object) name(name string) {
	o.b = append(append(append(o.b, `,"`...), name...), `":`...)
}

func (o *object) text(name, value string) {
	if value != "" {
		o.name(name)
		o.b = appendString(o.b, value)
	}
}

func (o *object) number(name string, value uint64) {
	if value != 0 {
		o.name(name)
		o.b = strconv.AppendUint(o.b, value, 10)
	}
}

func (o *object) signed(name string, value int64) {
	if value != 0 {
		o.name(name)
		o.b = strconv.AppendInt(o.b, value, 10)
	}
}

func (o *object) truth(name string, value bool) {
	if value {
		o.name(name)
		o.b = append(o.b, "true"...)
	}
}

// at writes a time that a record can have, or none.
func (o *object) at(t time.Time) {
	if micros := t.UnixMicro(); micros > 0 && micros <= maxMicros {
		o.name("at")
		o.b = append(t.UTC().AppendFormat(append(o.b, '"'), exportTime), '"')
	}
}

// appendString quotes a text: all but printable ASCII is \uXXXX.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r >= ' ' && r <= '~':
			b = append(b, byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return append(b, '"')
}
