// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of a record, in bytes.
const (
	MaxText = 255 // of each text: what names are bound to elsewhere
	maxWord = 32  // of face, action and outcome

	formatV1 = 0x01

	fieldsOfRecord = 17

	// Seventeen lengths, and what has a fixed or a least length; then five texts, an
	// address and three words at their longest.
	minBody = fieldsOfRecord*4 + 1 + 16 + 8 + 8 + 3 + 4 + 1 + 8 + 8
	maxBody = minBody + 5*MaxText + 16 + 3*(maxWord-1)

	maxMicros = 253402300799_999999 // the year 9999, which timestamptz can hold
)

// ErrRecord is behind every error about a record that no chain can hold.
var ErrRecord = errors.New("not an audit record")

// clean makes of a record what a chain can hold. Only what a program must have
// got wrong is an error.
func (r *Record) clean(now time.Time) error {
	if r.At.IsZero() {
		r.At = now
	}
	r.Addr = r.Addr.Unmap().WithZone("")
	for _, text := range [...]*string{&r.Actor, &r.SessionRole, &r.Database, &r.Secret, &r.Reason} {
		if !validText(*text) {
			*text = cleanText(*text)
		}
	}
	return r.checkRest()
}

// check reports what is wrong with a record that is not clean.
func (r *Record) check() error {
	for _, text := range [...]string{r.Actor, r.SessionRole, r.Database, r.Secret, r.Reason} {
		if !validText(text) {
			return fmt.Errorf("%w: a text is too long or not UTF-8", ErrRecord)
		}
	}
	return r.checkRest()
}

// checkRest is check for all but the texts.
func (r *Record) checkRest() error {
	switch micros := r.At.UnixMicro(); {
	case micros <= 0 || micros > maxMicros:
		return fmt.Errorf("%w: its time is out of bounds", ErrRecord)
	case !validWord(string(r.Face)) || !validWord(string(r.Action)) || !validWord(string(r.Outcome)):
		return fmt.Errorf("%w: face, action and outcome are words of a-z and _", ErrRecord)
	case r.Version < 0 || r.Change < 0:
		return fmt.Errorf("%w: a number is negative", ErrRecord)
	case r.Addr.Is4In6() || r.Addr.Zone() != "":
		return fmt.Errorf("%w: an address has another spelling", ErrRecord)
	}
	return nil
}

func validText(s string) bool {
	return len(s) <= MaxText && strings.IndexByte(s, 0) < 0 && utf8.ValidString(s)
}

func cleanText(s string) string {
	const ellipsis = "…"
	if len(s) > 2*MaxText { // enough for what is kept, however long it is
		s = s[:2*MaxText]
	}
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) <= MaxText {
		return s
	}
	end := MaxText - len(ellipsis)
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis
}

func validWord(s string) bool {
	for i := range len(s) {
		if s[i] != '_' && (s[i] < 'a' || s[i] > 'z') {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= maxWord
}

// appendBody appends the canonical bytes of a clean record.
func (r *Record) appendBody(b []byte, node NodeID, seq uint64) []byte {
	b = append(b, 0, 0, 0, 1, formatV1)
	b = appendField(b, node[:])
	b = appendUint64(b, seq)
	b = appendUint64(b, uint64(r.At.UnixMicro()))
	b = appendField(b, r.Actor)
	b = appendField(b, r.SessionRole)
	b = appendAddr(b, r.Addr)
	b = appendField(b, r.Face)
	b = appendField(b, r.Database)
	b = appendField(b, r.Action)
	b = appendField(b, r.Secret)
	b = append(b, 0, 0, 0, 4)
	b = binary.BigEndian.AppendUint32(b, uint32(r.Version)) //nolint:gosec // see check
	b = appendField(b, r.Outcome)
	var direct byte
	if r.Direct {
		direct = 1
	}
	b = append(b, 0, 0, 0, 1, direct)
	b = appendField(b, r.Reason)
	b = appendUint64(b, uint64(r.Change)) //nolint:gosec // see check
	return appendUint64(b, r.Statement)
}

func appendAddr(b []byte, a netip.Addr) []byte {
	switch {
	case a.Is4():
		four := a.As4()
		return appendField(b, four[:])
	case a.Is6():
		six := a.As16()
		return appendField(b, six[:])
	}
	return append(b, 0, 0, 0, 0)
}

func appendField[T ~string | ~[]byte](b []byte, field T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(field))) //nolint:gosec // at most MaxText
	return append(b, field...)
}

func appendUint64(b []byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0, 0, 0, 8), n)
}

// decodeBody reads canonical bytes, and nothing that appendBody would write in
// another way.
func decodeBody(b []byte, t *texts) (row Row, err error) {
	d := fields{rest: b}
	format := d.next(1, 1)
	node := d.next(16, 16)
	row.Seq = d.uint64()
	micros := d.uint64()
	row.Actor, row.SessionRole = t.text(0, d.next(0, MaxText)), t.text(1, d.next(0, MaxText))
	addr := d.next(0, 16)
	row.Face = Face(t.text(2, d.next(1, maxWord)))
	row.Database = t.text(3, d.next(0, MaxText))
	row.Action = Action(t.text(4, d.next(1, maxWord)))
	row.Secret = string(d.next(0, MaxText))
	version := d.next(4, 4)
	row.Outcome = Outcome(t.text(5, d.next(1, maxWord)))
	direct := d.next(1, 1)
	row.Reason = string(d.next(0, MaxText))
	change := d.uint64()
	row.Statement = d.uint64()
	switch {
	case d.bad || len(d.rest) != 0:
		return Row{}, fmt.Errorf("%w: a field's length is out of bounds", ErrRecord)
	case format[0] != formatV1 || direct[0] > 1 || row.Seq < 1 || row.Seq > maxSeq || micros > maxMicros:
		return Row{}, fmt.Errorf("%w: a field's content is out of bounds", ErrRecord)
	}
	row.Node, row.Direct = NodeID(node), direct[0] == 1
	row.At = time.UnixMicro(int64(micros)).UTC()
	row.Version = int32(binary.BigEndian.Uint32(version)) //nolint:gosec // negative ones are refused by check
	row.Change = int64(change)                            //nolint:gosec // as above
	if row.Addr, d.bad = parseAddr(addr); d.bad {
		return Row{}, fmt.Errorf("%w: an address has another length", ErrRecord)
	}
	return row, row.check()
}

// bodySize is how many bytes are the canonical ones of a record, with which b begins.
func bodySize(b []byte) (n int) {
	for range fieldsOfRecord {
		n += 4 + int(binary.BigEndian.Uint32(b[n:]))
	}
	return n
}

// place reads of canonical bytes whose they are, and their number.
func place(b []byte) (node NodeID, seq uint64, err error) {
	d := fields{rest: b}
	format := d.next(1, 1)
	node, seq = NodeID(d.next(16, 16)), d.uint64()
	if d.bad || format[0] != formatV1 {
		return node, seq, fmt.Errorf("%w: a field is out of bounds", ErrRecord)
	}
	return node, seq, nil
}

// texts are some of the texts of the record before, which most records share: a text
// that is the same again costs no memory.
type texts [6]string

func (t *texts) text(i int, b []byte) string {
	if string(b) != t[i] {
		t[i] = string(b)
	}
	return t[i]
}

func parseAddr(b []byte) (a netip.Addr, bad bool) {
	if len(b) == 0 {
		return a, false
	}
	a, ok := netip.AddrFromSlice(b)
	return a, !ok
}

// fields reads one field after the other; bad stays once it is set.
type fields struct {
	rest []byte
	bad  bool
}

// next returns a field of shortest to longest bytes. After a fault it returns
// zero bytes of the shortest length.
func (f *fields) next(shortest, longest int) []byte {
	if len(f.rest) < 4 {
		f.bad = true
	}
	if !f.bad {
		n := binary.BigEndian.Uint32(f.rest)
		f.rest = f.rest[4:]
		if uint64(n) >= uint64(shortest) && uint64(n) <= uint64(longest) && uint64(n) <= uint64(len(f.rest)) { //nolint:gosec // not negative
			field := f.rest[:n]
			f.rest = f.rest[n:]
			return field
		}
		f.bad = true
	}
	return zeroes[:shortest]
}

var zeroes [64]byte

func (f *fields) uint64() uint64 { return binary.BigEndian.Uint64(f.next(8, 8)) }
