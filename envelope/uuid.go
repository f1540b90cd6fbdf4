// SPDX-License-Identifier: GPL-3.0-or-later

package envelope

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
)

// UUID is a 16-byte identifier: of a vault, or of one secret in it.
type UUID [16]byte

// uuidText is the length of the only text form: 8-4-4-4-12 hex digits.
const uuidText = 36

var errUUID = errors.New("envelope: not a uuid (want 8-4-4-4-12 hexadecimal digits)")

// NewUUID returns a random (version 4) UUID.
func NewUUID() UUID {
	var u UUID
	rand.Read(u[:]) // never fails: crypto/rand ends the process instead
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}

// ParseUUID reads the 8-4-4-4-12 form, in either case and without braces. The
// error does not repeat the text.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	if len(s) != uuidText || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return UUID{}, errUUID
	}
	digits := s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:36]
	if n, err := hex.Decode(u[:], []byte(digits)); err != nil || n != len(u) {
		return UUID{}, errUUID
	}
	return u, nil
}

// String is the lower-case 8-4-4-4-12 form, as PostgreSQL writes it.
func (u UUID) String() string {
	return string(u.appendText(make([]byte, 0, uuidText)))
}

func (u UUID) appendText(dst []byte) []byte {
	dst = hex.AppendEncode(dst, u[0:4])
	for _, part := range [][]byte{u[4:6], u[6:8], u[8:10], u[10:16]} {
		dst = append(dst, '-')
		dst = hex.AppendEncode(dst, part)
	}
	return dst
}
