// SPDX-License-Identifier: GPL-3.0-or-later

// Package localkms is a KMS that is a master key in this process: for
// development, tests, and those who keep that key safe by their own means.
package localkms

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/hkdf"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/erase"
)

// MasterSize is the size of a master key in bytes.
const MasterSize = 32

const (
	salt          = "hyperion-vault/local-kms/1"
	infoWrap      = "wrap"
	infoID        = "key id"
	idPrefix      = "local:"
	idSize        = 16 // bytes of fingerprint
	domainWrap    = "hv/local-wrap/1"
	wrappedLength = chacha20poly1305.NonceSizeX + envelope.DEKSize + chacha20poly1305.Overhead
)

// KMS wraps data keys with a subkey of a master key. Safe for concurrent use.
type KMS struct {
	id   string
	aead cipher.AEAD // holds the wrapping subkey
}

// New derives the subkeys of master, exactly 32 bytes, which it does not keep:
// the caller zeroes it.
func New(master []byte) (*KMS, error) {
	if len(master) != MasterSize {
		return nil, fmt.Errorf("local kms: the master key must have exactly %d bytes, it has %d", MasterSize, len(master))
	}
	k := new(KMS)
	var err error
	erase.Do(func() {
		var wrap, id [32]byte
		defer erase.Zero(wrap[:])
		if err = subkey(master, infoWrap, wrap[:]); err != nil {
			return
		}
		if err = subkey(master, infoID, id[:idSize]); err != nil {
			return
		}
		k.id = idPrefix + hex.EncodeToString(id[:idSize])
		k.aead, err = chacha20poly1305.NewX(wrap[:])
	})
	if err != nil {
		return nil, err
	}
	return k, nil
}

func subkey(master []byte, info string, out []byte) error {
	if _, err := io.ReadFull(hkdf.New(sha256.New, master, []byte(salt), []byte(info)), out); err != nil {
		return fmt.Errorf("internal error: hkdf: %w", err)
	}
	return nil
}

// KeyID is "local:" and the master key's fingerprint, 32 hexadecimal digits. It
// tells nothing of the key.
func (k *KMS) KeyID() string { return k.id }

// Generate makes a random data key and wraps it.
func (k *KMS) Generate(ctx context.Context, c envelope.Context) (plain, wrapped []byte, keyID string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, "", &envelope.KMSError{Kind: envelope.KMSUnavailable, Err: err}
	}
	wrapped = make([]byte, chacha20poly1305.NonceSizeX, wrappedLength)
	rand.Read(wrapped) // never fails: crypto/rand ends the process instead
	erase.Do(func() {
		plain = make([]byte, envelope.DEKSize)
		rand.Read(plain)
		wrapped = k.aead.Seal(wrapped, wrapped, plain, aad(c))
	})
	return plain, wrapped, k.id, nil
}

// Unwrap opens a wrapped data key: KMSNotFound for another master key's,
// KMSInvalid for one that was changed or is of another context.
func (k *KMS) Unwrap(ctx context.Context, keyID string, wrapped []byte, c envelope.Context) (plain []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, &envelope.KMSError{Kind: envelope.KMSUnavailable, Err: err}
	}
	if keyID != k.id {
		return nil, &envelope.KMSError{Kind: envelope.KMSNotFound, Err: errors.New("this node has another master key: " + k.id)}
	}
	if len(wrapped) != wrappedLength {
		return nil, &envelope.KMSError{Kind: envelope.KMSInvalid, Err: errors.New("wrapped key of another length")}
	}
	erase.Do(func() {
		nonce, sealed := wrapped[:chacha20poly1305.NonceSizeX], wrapped[chacha20poly1305.NonceSizeX:]
		plain, err = k.aead.Open(nil, nonce, sealed, aad(c))
	})
	if err != nil {
		return nil, &envelope.KMSError{Kind: envelope.KMSInvalid, Err: errors.New("wrapped key does not open under this context")}
	}
	return plain, nil
}

// aad binds a wrapped key to its context.
func aad(c envelope.Context) []byte {
	return envelope.Encode(domainWrap, c.AppendCanonical(nil))
}
