// SPDX-License-Identifier: GPL-3.0-or-later

package envelope

import "encoding/binary"

// Domains keep hashes, AADs and contexts of different purposes apart: each
// starts with its own string, so no bytes can stand for two things.
const (
	domainAAD     = "hv/aad/1"
	domainContext = "hv/ctx/1"
	domainCache   = "hv/cache/1"
)

// AppendField appends one field of the length-prefixed encoding: a big-endian
// uint32 length, then the bytes. A domain is written as a field. The field must
// be shorter than 4 GiB, which every caller's own bound ensures.
func AppendField[T ~string | ~[]byte](dst []byte, field T) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(field))) //nolint:gosec // bounded by every caller
	return append(dst, field...)
}

// Encode is the length-prefixed encoding of a domain and its fields.
func Encode(domain string, fields ...[]byte) []byte {
	n := 4 + len(domain)
	for _, f := range fields {
		n += 4 + len(f)
	}
	dst := AppendField(make([]byte, 0, n), domain)
	for _, f := range fields {
		dst = AppendField(dst, f)
	}
	return dst
}

// appendAAD appends what the AEAD binds a value to. The KMS key id and the
// wrapped key stay out, so that re-wrapping never touches ciphertext.
func appendAAD(dst []byte, sub *Subject, commitment []byte) []byte {
	dst = AppendField(dst, domainAAD)
	dst = append(dst, 0, 0, 0, 1, formatV1)
	dst = append(dst, 0, 0, 0, 1, algXChaCha)
	dst = AppendField(dst, sub.Vault[:])
	dst = AppendField(dst, sub.Secret[:])
	dst = append(dst, 0, 0, 0, 4)
	dst = binary.BigEndian.AppendUint32(dst, uint32(sub.Version)) //nolint:gosec // positive, checked before
	dst = AppendField(dst, sub.Name)
	dst = append(dst, 0, 0, 0, 1, byte(sub.Format))
	return AppendField(dst, commitment)
}

// appendContextField appends a context's canonical bytes as a field.
func appendContextField(dst []byte, c Context) []byte {
	at := len(dst)
	dst = c.AppendCanonical(append(dst, 0, 0, 0, 0))
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4)) //nolint:gosec // a name and a uuid
	return dst
}
