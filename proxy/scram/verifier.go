// SPDX-License-Identifier: GPL-3.0-or-later

package scram

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrVerifier is reported for a text that is not a SCRAM-SHA-256 verifier: an
// MD5 hash, a cleartext password or a damaged one (errors.Is). The message
// never holds the text.
var ErrVerifier = errors.New("scram: not a SCRAM-SHA-256 verifier")

const (
	verifierPrefix = "SCRAM-SHA-256$"

	// mockIterations is PostgreSQL's default, which a role that does not exist
	// must seem to have.
	mockIterations = 4096
	mockSaltLen    = 16

	// mockDomain keeps the mock secret's use here apart from any other.
	mockDomain = "hv/scram-mock/1"
)

// Verifier is what PostgreSQL stores in pg_authid.rolpassword. It prints as
// "[redacted]": StoredKey and ServerKey allow to guess the password off-line,
// and ServerKey to play the server. Zero value: of no use.
type Verifier struct {
	Iterations                 int
	Salt, StoredKey, ServerKey []byte
}

// ParseVerifier reads the form
// "SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>".
func ParseVerifier(s string) (Verifier, error) {
	if len(s) > MaxMessage || !strings.HasPrefix(s, verifierPrefix) {
		return Verifier{}, ErrVerifier
	}
	params, keys, ok := strings.Cut(s[len(verifierPrefix):], "$")
	if !ok {
		return Verifier{}, ErrVerifier
	}
	iterations, salt, ok1 := strings.Cut(params, ":")
	stored, server, ok2 := strings.Cut(keys, ":")
	if !ok1 || !ok2 {
		return Verifier{}, ErrVerifier
	}
	n, ok := parseIterations([]byte(iterations))
	if !ok {
		return Verifier{}, fmt.Errorf("%w: iterations must be 1 to %d", ErrVerifier, MaxIterations)
	}
	v := Verifier{Iterations: n}
	if v.Salt, ok = decode64([]byte(salt), base64.StdEncoding.EncodedLen(maxSalt)); !ok || len(v.Salt) == 0 {
		return Verifier{}, fmt.Errorf("%w: bad salt", ErrVerifier)
	}
	if v.StoredKey, ok = decodeKey([]byte(stored)); !ok {
		return Verifier{}, fmt.Errorf("%w: bad StoredKey", ErrVerifier)
	}
	if v.ServerKey, ok = decodeKey([]byte(server)); !ok {
		return Verifier{}, fmt.Errorf("%w: bad ServerKey", ErrVerifier)
	}
	return v, nil
}

// parseIterations reads a count without sign or leading zero.
func parseIterations(s []byte) (int, bool) {
	if len(s) == 0 || len(s) > len("10000000") || s[0] == '0' {
		return 0, false
	}
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, n <= MaxIterations
}

// NewVerifier makes a verifier from a password, for tools and tests. The
// password is taken byte for byte; for one that is not ASCII the caller
// applies SASLprep first.
func NewVerifier(password string, salt []byte, iterations int) (Verifier, error) {
	if iterations < 1 || iterations > MaxIterations || len(salt) == 0 || len(salt) > maxSalt {
		return Verifier{}, fmt.Errorf("%w: salt of 1 to %d bytes and 1 to %d iterations wanted", ErrVerifier, maxSalt, MaxIterations)
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, keyLen)
	if err != nil {
		return Verifier{}, fmt.Errorf("%w: %w", ErrVerifier, err)
	}
	defer clear(salted)
	clientKey := mac(salted, []byte("Client Key"))
	defer clear(clientKey)
	stored := sha256.Sum256(clientKey)
	return Verifier{
		Iterations: iterations,
		Salt:       bytes.Clone(salt),
		StoredKey:  stored[:],
		ServerKey:  mac(salted, []byte("Server Key")),
	}, nil
}

// Mock returns the verifier of a role that does not exist or cannot log in by
// SCRAM, so that a stranger cannot tell: the same name always gets the same
// salt. secret is the same on all nodes and lives as long as the cluster. No
// password matches it; give it to [NewServer] as doomed nevertheless.
func Mock(secret []byte, user string) Verifier {
	derive := func(purpose string) []byte {
		// The purpose has no NUL and a user name has none: one reading only.
		return mac(secret, []byte(mockDomain), []byte{0}, []byte(purpose), []byte{0}, []byte(user))
	}
	return Verifier{
		Iterations: mockIterations,
		Salt:       derive("salt")[:mockSaltLen],
		StoredKey:  derive("stored"),
		ServerKey:  derive("server"),
	}
}

// Text returns the form that [ParseVerifier] reads.
func (v Verifier) Text() string {
	e := base64.StdEncoding.EncodeToString
	return verifierPrefix + strconv.Itoa(v.Iterations) + ":" + e(v.Salt) + "$" + e(v.StoredKey) + ":" + e(v.ServerKey)
}

// clone returns a copy whose keys can be zeroed without touching the caller's.
func (v Verifier) clone() Verifier {
	return Verifier{
		Iterations: v.Iterations,
		Salt:       bytes.Clone(v.Salt),
		StoredKey:  bytes.Clone(v.StoredKey),
		ServerKey:  bytes.Clone(v.ServerKey),
	}
}

// zero overwrites the keys.
func (v *Verifier) zero() {
	clear(v.StoredKey)
	clear(v.ServerKey)
}

const redacted = "[redacted]"

// Format prints "[redacted]" for every verb.
func (v Verifier) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText returns "[redacted]".
func (v Verifier) MarshalText() ([]byte, error) { return []byte(redacted), nil }
