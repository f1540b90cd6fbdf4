// SPDX-License-Identifier: GPL-3.0-or-later

package envelope

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"sync"
)

// Bounds of a record, in bytes. MaxText is checked before anything is allocated.
const (
	MaxValue      = 512 << 10 // longest plaintext
	MaxText       = 720 << 10 // longest hv1 text: the largest record has 712,059
	MaxKeyID      = 2048      // as AWS bounds a key ARN
	MaxWrappedDEK = 6144      // as AWS bounds a ciphertext blob
	MaxCIDRs      = 64        // entries of AllowedCIDRs

	textPrefix    = "hv1."
	formatV1      = 0x01
	algXChaCha    = 0x01 // what formatV1 implies
	nonceSize     = 24
	commitSize    = 32
	tagSize       = 16
	minCiphertext = commitSize + 1 + tagSize
	maxCiphertext = commitSize + MaxValue + tagSize
	maxCIDRBytes  = MaxCIDRs * 18
	maxVersion    = 1<<31 - 1
)

// ValueFormat says what a value is; it is bound by the AAD.
type ValueFormat byte

// The value formats. Others are refused.
const (
	FormatText     ValueFormat = 1 // valid UTF-8
	FormatBytes    ValueFormat = 2 // any bytes
	FormatUserpass ValueFormat = 3 // JSON text with a user name and a password
)

// Valid reports whether f is one of the formats above.
func (f ValueFormat) Valid() bool { return f >= FormatText && f <= FormatUserpass }

func (f ValueFormat) String() string {
	switch f {
	case FormatText:
		return "text"
	case FormatBytes:
		return "bytes"
	case FormatUserpass:
		return "userpass"
	}
	return "format " + strconv.Itoa(int(f))
}

// Subject is what a sealed version is bound to: it opens under no other.
type Subject struct {
	Vault, Secret UUID
	Name          string
	Version       int32 // 1 and up
	Format        ValueFormat
}

// Sealed is one encrypted version. Ciphertext is the key commitment followed by
// the AEAD's output.
type Sealed struct {
	KeyID                         string
	WrappedDEK, Nonce, Ciphertext []byte
}

// Record is a sealed version with its subject, as it travels in SQL. The AAD
// proves the subject; AllowedCIDRs are outside it and are the server's word.
type Record struct {
	Subject
	Sealed
	AllowedCIDRs []netip.Prefix // nil: any address
}

// ErrMalformed is behind every error about a text that is not a record.
var ErrMalformed = errors.New("malformed sealed record")

// strictURL refuses padding and non-zero trailing bits: one spelling only.
var strictURL = base64.RawURLEncoding.Strict()

// ParseRecord reads an hv1 text. Only what AppendText writes is accepted; any
// other text gives a *RecordError, which is ErrMalformed. The record's slices
// share one buffer of its own, none of text.
func ParseRecord(text []byte) (Record, error) {
	var r Record
	if _, err := r.Parse(text, nil); err != nil {
		return Record{}, err
	}
	return r, nil
}

// Parse is ParseRecord without the allocations: it decodes into buf (grown if
// too small and returned for the next call), which r then refers to, and keeps
// r's strings and AllowedCIDRs where they are the same as before. After an error
// r's content is undefined.
func (r *Record) Parse(text, buf []byte) ([]byte, error) {
	if len(text) > MaxText {
		return buf, &RecordError{Fault: FaultTooLong}
	}
	if len(text) < len(textPrefix) || string(text[:len(textPrefix)]) != textPrefix {
		return buf, &RecordError{Fault: FaultPrefix}
	}
	text = text[len(textPrefix):]
	// encoding/base64 skips line breaks; a second spelling is not wanted.
	if bytes.IndexByte(text, '\n') >= 0 || bytes.IndexByte(text, '\r') >= 0 {
		return buf, &RecordError{Fault: FaultBase64}
	}
	if n := strictURL.DecodedLen(len(text)); cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:cap(buf)]
	n, err := strictURL.Decode(buf, text)
	if err != nil {
		return buf, &RecordError{Fault: FaultBase64} // not wrapped: it is about the text
	}
	return buf, r.decode(buf[:n])
}

// decode reads the binary form. Every field is bounded before it is used.
func (r *Record) decode(b []byte) error {
	d := fields{rest: b}
	format := d.next(FieldFormat, 1, 1)
	vault := d.next(FieldVault, 16, 16)
	secret := d.next(FieldSecret, 16, 16)
	version := d.next(FieldVersion, 4, 4)
	name := d.next(FieldName, 1, MaxName)
	value := d.next(FieldValueFormat, 1, 1)
	keyID := d.next(FieldKeyID, 1, MaxKeyID)
	wrapped := d.next(FieldWrappedDEK, 1, MaxWrappedDEK)
	nonce := d.next(FieldNonce, nonceSize, nonceSize)
	ciphertext := d.next(FieldCiphertext, minCiphertext, maxCiphertext)
	cidrs := d.next(FieldCIDRs, 0, maxCIDRBytes)
	switch {
	case d.err != nil:
		return d.err
	case len(d.rest) != 0:
		return &RecordError{Fault: FaultTrailing}
	case format[0] != formatV1:
		return &RecordError{Fault: FaultValue, Field: FieldFormat}
	case binary.BigEndian.Uint32(version)-1 >= maxVersion:
		return &RecordError{Fault: FaultValue, Field: FieldVersion}
	case !ValueFormat(value[0]).Valid():
		return &RecordError{Fault: FaultValue, Field: FieldValueFormat}
	}
	r.Vault, r.Secret = UUID(vault), UUID(secret)
	r.Version = int32(binary.BigEndian.Uint32(version)) //nolint:gosec // checked above
	r.Format = ValueFormat(value[0])
	if r.Name != string(name) {
		r.Name = string(name)
	}
	if CheckName(r.Name) != nil {
		return &RecordError{Fault: FaultValue, Field: FieldName}
	}
	if r.KeyID != string(keyID) {
		r.KeyID = string(keyID)
	}
	if !validKeyID(r.KeyID) {
		return &RecordError{Fault: FaultValue, Field: FieldKeyID}
	}
	r.WrappedDEK, r.Nonce, r.Ciphertext = wrapped, nonce, ciphertext
	var ok bool
	if r.AllowedCIDRs, ok = parseCIDRs(r.AllowedCIDRs[:0], cidrs); !ok {
		return &RecordError{Fault: FaultValue, Field: FieldCIDRs}
	}
	return nil
}

// validKeyID: printable ASCII without spaces, as every provider's ids are, so
// that an id can be shown and logged as it is.
func validKeyID(id string) bool {
	for i := range len(id) {
		if id[i] <= ' ' || id[i] >= 0x7f {
			return false
		}
	}
	return len(id) >= 1 && len(id) <= MaxKeyID
}

// binaries holds buffers for the binary form, which has nothing secret in it.
var binaries = sync.Pool{New: func() any { return new([]byte) }}

// maxPooled keeps the pool from holding the largest records for ever.
const maxPooled = 64 << 10

// AppendText appends the hv1 text. A record that ParseRecord would not accept
// is a *RecordError, and dst is returned as it was.
func (r *Record) AppendText(dst []byte) ([]byte, error) {
	if err := r.check(); err != nil {
		return dst, err
	}
	p := binaries.Get().(*[]byte) //nolint:errcheck // the pool's New makes nothing else
	b := r.appendBinary((*p)[:0])
	dst = strictURL.AppendEncode(append(dst, textPrefix...), b)
	if cap(b) <= maxPooled {
		*p = b
		binaries.Put(p)
	}
	return dst, nil
}

func (r *Record) appendBinary(b []byte) []byte {
	b = append(b, 0, 0, 0, 1, formatV1)
	b = AppendField(b, r.Vault[:])
	b = AppendField(b, r.Secret[:])
	b = append(b, 0, 0, 0, 4)
	b = binary.BigEndian.AppendUint32(b, uint32(r.Version)) //nolint:gosec // checked by check
	b = AppendField(b, r.Name)
	b = append(b, 0, 0, 0, 1, byte(r.Format))
	b = AppendField(b, r.KeyID)
	b = AppendField(b, r.WrappedDEK)
	b = AppendField(b, r.Nonce)
	b = AppendField(b, r.Ciphertext)
	return appendCIDRs(b, r.AllowedCIDRs)
}

// check applies to a record built by hand what decode applies to a text.
func (r *Record) check() error {
	var field Field
	switch {
	case r.Version < 1:
		field = FieldVersion
	case CheckName(r.Name) != nil:
		field = FieldName
	case !r.Format.Valid():
		field = FieldValueFormat
	case !validKeyID(r.KeyID):
		field = FieldKeyID
	case len(r.WrappedDEK) < 1 || len(r.WrappedDEK) > MaxWrappedDEK:
		field = FieldWrappedDEK
	case len(r.Nonce) != nonceSize:
		field = FieldNonce
	case len(r.Ciphertext) < minCiphertext || len(r.Ciphertext) > maxCiphertext:
		field = FieldCiphertext
	case !validCIDRs(r.AllowedCIDRs):
		field = FieldCIDRs
	default:
		return nil
	}
	return &RecordError{Fault: FaultValue, Field: field}
}

// openable reports whether the fields that the AEAD and the KMS take have sizes
// that a record can have; what it leaves out is bound by the AAD.
func (r *Record) openable() bool {
	return len(r.Nonce) == nonceSize &&
		len(r.Ciphertext) >= minCiphertext && len(r.Ciphertext) <= maxCiphertext &&
		len(r.WrappedDEK) >= 1 && len(r.WrappedDEK) <= MaxWrappedDEK
}
