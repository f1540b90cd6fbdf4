// SPDX-License-Identifier: GPL-3.0-or-later

package envelope

import (
	"encoding/binary"
	"fmt"
)

// Fault is a kind of damage to a record's text.
type Fault int

// The faults, in the order in which they are looked for.
const (
	FaultTooLong   Fault = iota + 1 // more than MaxText bytes
	FaultPrefix                     // does not begin with "hv1."
	FaultBase64                     // alphabet, padding, line break, or stray bits in the last digit
	FaultTruncated                  // ends inside a field
	FaultLength                     // a field's length is outside its bounds
	FaultTrailing                   // bytes after the last field
	FaultValue                      // a field's content is not allowed
)

func (f Fault) String() string {
	switch f {
	case FaultTooLong:
		return "too long"
	case FaultPrefix:
		return "does not begin with hv1."
	case FaultBase64:
		return "not strict base64url"
	case FaultTruncated:
		return "truncated"
	case FaultLength:
		return "length out of bounds"
	case FaultTrailing:
		return "bytes after the last field"
	case FaultValue:
		return "value not allowed"
	}
	return "unknown fault"
}

// Field is a field of a record; the number is its place in the binary form.
type Field int

// The fields in order.
const (
	FieldFormat Field = iota + 1
	FieldVault
	FieldSecret
	FieldVersion
	FieldName
	FieldValueFormat
	FieldKeyID
	FieldWrappedDEK
	FieldNonce
	FieldCiphertext
	FieldCIDRs
)

var fieldNames = [...]string{
	"record", "format", "vault id", "secret id", "version", "name", "value format",
	"kms key id", "wrapped dek", "nonce", "ciphertext", "allowed cidrs",
}

func (f Field) String() string {
	if f < 0 || int(f) >= len(fieldNames) {
		return "unknown field"
	}
	return fieldNames[f]
}

// RecordError says what is wrong with a record. It never repeats its bytes, and
// errors.Is(err, ErrMalformed) holds for it.
type RecordError struct {
	Fault Fault
	Field Field // zero: the text as a whole
}

func (e *RecordError) Error() string {
	return fmt.Sprintf("%v: %v: %v", ErrMalformed, e.Field, e.Fault)
}

// Unwrap makes every RecordError an ErrMalformed.
func (e *RecordError) Unwrap() error { return ErrMalformed }

// fields reads length-prefixed fields; the first error sticks.
type fields struct {
	rest []byte
	err  *RecordError
}

// next returns the next field, which shares the input's memory and cannot be
// appended to. The bound is checked before the length is used.
func (d *fields) next(f Field, least, most int) []byte {
	if d.err != nil {
		return nil
	}
	if len(d.rest) < 4 {
		d.err = &RecordError{Fault: FaultTruncated, Field: f}
		return nil
	}
	n := binary.BigEndian.Uint32(d.rest)
	if n < uint32(least) || n > uint32(most) { //nolint:gosec // both are small constants
		d.err = &RecordError{Fault: FaultLength, Field: f}
		return nil
	}
	d.rest = d.rest[4:]
	if uint32(len(d.rest)) < n { //nolint:gosec // at most MaxText
		d.err = &RecordError{Fault: FaultTruncated, Field: f}
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}
