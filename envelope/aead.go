// SPDX-License-Identifier: GPL-3.0-or-later

package envelope

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/hkdf"
)

// What follows handles keys: it is called inside erase.Do only.

const hkdfSalt = "hyperion-vault/envelope/1"

// derive makes the two keys of a data key, which must be a whole one. Its only
// errors are KMSInvalid and a broken invariant.
func derive(dek []byte, k *keys) error {
	if len(dek) != DEKSize {
		return &KMSError{Kind: KMSInvalid, Err: errors.New("it answered with a data key of another size")}
	}
	r := hkdf.New(sha256.New, dek, []byte(hkdfSalt), []byte{formatV1, algXChaCha})
	if _, err := io.ReadFull(r, k[:]); err != nil {
		return fmt.Errorf("internal error: hkdf: %w", err) // 64 bytes are always to be had
	}
	return nil
}

// aads holds scratch for AADs: an interface call would move one to the heap. An
// AAD holds nothing secret but the commitment, which is in the record.
var aads = sync.Pool{New: func() any { return new([512]byte) }}

// openWith appends the value of r to dst. r passed check.
func openWith(k *keys, r *Record, dst []byte) ([]byte, error) {
	commitment := r.Ciphertext[:commitSize]
	if subtle.ConstantTimeCompare(commitment, k.commitment()) != 1 {
		return nil, ErrTampered
	}
	aead, err := chacha20poly1305.NewX(k.encryption())
	if err != nil {
		return nil, fmt.Errorf("internal error: aead: %w", err)
	}
	scratch := aads.Get().(*[512]byte) //nolint:errcheck // the pool's New makes nothing else
	defer aads.Put(scratch)
	aad := appendAAD(scratch[:0], &r.Subject, commitment)
	out, err := aead.Open(dst, r.Nonce, r.Ciphertext[commitSize:], aad)
	if err != nil {
		return nil, ErrTampered
	}
	return out, nil
}

// sealWith appends commitment and AEAD output to dst.
func sealWith(k *keys, sub *Subject, nonce, dst, plain []byte) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(k.encryption())
	if err != nil {
		return nil, fmt.Errorf("internal error: aead: %w", err)
	}
	aad := appendAAD(nil, sub, k.commitment())
	dst = append(dst, k.commitment()...)
	return aead.Seal(dst, nonce, plain, aad), nil
}
