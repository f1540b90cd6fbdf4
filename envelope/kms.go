// SPDX-License-Identifier: GPL-3.0-or-later

package envelope

import (
	"context"
	"errors"
	"fmt"
)

// DEKSize is the size of a data key in bytes (AES_256 in the KMS's words).
const DEKSize = 32

// Context is the KMS encryption context of a data key: {"vault": uuid,
// "secret": name}. It has no version, so the KMS can be asked before any lock is
// taken, and a KMS policy can restrict a node to a prefix of names.
type Context struct {
	Vault  UUID
	Secret string
}

// Map is the context as a KMS wants it.
func (c Context) Map() map[string]string {
	return map[string]string{"vault": c.Vault.String(), "secret": c.Secret}
}

// AppendCanonical appends the canonical bytes of the context, for hashes and for
// providers that bind it as additional data.
func (c Context) AppendCanonical(dst []byte) []byte {
	dst = AppendField(dst, domainContext)
	dst = AppendField(dst, "secret")
	dst = AppendField(dst, c.Secret)
	dst = AppendField(dst, "vault")
	dst = append(dst, 0, 0, 0, uuidText)
	return c.Vault.appendText(dst)
}

// KMS makes and unwraps data keys. Implementations are safe for concurrent use,
// return *KMSError, and obey the context. What they return as a plain key is the
// caller's to zero. They are called inside erase.Do.
type KMS interface {
	// Generate returns a new 32-byte key, plain and wrapped, and the id of the
	// key that wrapped it.
	Generate(ctx context.Context, c Context) (plain, wrapped []byte, keyID string, err error)
	// Unwrap returns the plain key. It must fail (KMSInvalid) if the key was
	// wrapped under another context, and if the KMS answers with another key id.
	Unwrap(ctx context.Context, keyID string, wrapped []byte, c Context) ([]byte, error)
}

// KMSErrorKind says why a KMS call failed.
type KMSErrorKind int

// The kinds of KMS failure.
const (
	KMSUnavailable KMSErrorKind = iota + 1 // not reached, or a fault on its side; retryable
	KMSThrottled                           // asked to slow down; retryable
	KMSDenied                              // these credentials may not
	KMSNotFound                            // no such key
	KMSDisabled                            // the key is disabled or about to be deleted
	KMSInvalid                             // it refuses what it was given: wrapped key, context, parameters
)

func (k KMSErrorKind) String() string {
	switch k {
	case KMSUnavailable:
		return "unavailable"
	case KMSThrottled:
		return "throttled"
	case KMSDenied:
		return "access denied"
	case KMSNotFound:
		return "key not found"
	case KMSDisabled:
		return "key disabled"
	case KMSInvalid:
		return "invalid request"
	}
	return "unknown"
}

// Retryable reports whether the same call may succeed a little later.
func (k KMSErrorKind) Retryable() bool { return k == KMSUnavailable || k == KMSThrottled }

// KMSError is a failed KMS call.
type KMSError struct {
	Kind KMSErrorKind
	Err  error // never holds a key; may be nil
}

func (e *KMSError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("kms: %v", e.Kind)
	}
	return fmt.Sprintf("kms: %v: %v", e.Kind, e.Err)
}

// Unwrap returns the provider's own error.
func (e *KMSError) Unwrap() error { return e.Err }

// kmsError makes any provider's error a *KMSError; what a provider did not
// classify counts as unavailable, so that it is tried again.
func kmsError(err error) *KMSError {
	var e *KMSError
	if errors.As(err, &e) {
		return e
	}
	return &KMSError{Kind: KMSUnavailable, Err: err}
}
