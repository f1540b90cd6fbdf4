// SPDX-License-Identifier: GPL-3.0-or-later

package envelope

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
)

// DEK is a fresh data key for one version of one secret. It seals once and is
// zeroed by that; a value that must be sealed again gets a new one. Destroy it if
// it was not used. Not safe for concurrent use.
type DEK struct {
	s       *Sealer
	name    string
	keyID   string
	wrapped []byte
	keys    keys
	spent   bool
}

// NewKey asks the KMS for a data key for a version of the named secret. It is to
// be called before any lock is taken. The error is ErrName, ErrClosed or a
// *KMSError.
func (s *Sealer) NewKey(ctx context.Context, name string) (*DEK, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if s.closed.Load() {
		return nil, ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var k *DEK
	var err error
	erase.Do(func() {
		k = &DEK{s: s, name: name}
		if err = s.generate(ctx, k); err != nil {
			k.Destroy()
			k = nil
		}
	})
	return k, err
}

// generate fills k with what the KMS answers.
func (s *Sealer) generate(ctx context.Context, k *DEK) error {
	return s.flights.call(ctx, func() error {
		s.kmsCalls.Add(1)
		plain, wrapped, keyID, err := s.kms.Generate(ctx, Context{Vault: s.vault, Secret: k.name})
		defer erase.Zero(plain)
		switch {
		case err != nil:
		case keyID != s.keyID:
			err = &KMSError{Kind: KMSInvalid, Err: fmt.Errorf(
				"asked for key %q, it answered with key %q: configure the id that it answers with", s.keyID, keyID)}
		case len(wrapped) < 1 || len(wrapped) > MaxWrappedDEK:
			err = &KMSError{Kind: KMSInvalid, Err: fmt.Errorf("it answered with a wrapped key of %d bytes", len(wrapped))}
		default:
			err = derive(plain, &k.keys)
		}
		switch {
		case err == nil:
		case errors.Is(ctx.Err(), context.Canceled): // the caller went away: that says nothing of the KMS
			return kmsError(err)
		default:
			return s.failed(err)
		}
		k.keyID, k.wrapped = keyID, wrapped
		return nil
	})
}

// Seal encrypts plain under sub, which must be of the key's own vault and name,
// and zeroes the key, also if it fails. It does no I/O. The error is ErrSpent,
// ErrSubject, ErrValue, or a *RecordError about sub.
func (k *DEK) Seal(sub Subject, plain []byte) (Sealed, error) {
	var nonce [nonceSize]byte
	rand.Read(nonce[:]) // never fails: crypto/rand ends the process instead
	return k.seal(sub, plain, nonce[:])
}

func (k *DEK) seal(sub Subject, plain, nonce []byte) (Sealed, error) {
	if k.spent {
		return Sealed{}, ErrSpent
	}
	defer k.Destroy()
	switch {
	case sub.Vault != k.s.vault || sub.Name != k.name:
		return Sealed{}, ErrSubject
	case len(plain) < 1 || len(plain) > MaxValue:
		return Sealed{}, ErrValue
	case sub.Version < 1:
		return Sealed{}, &RecordError{Fault: FaultValue, Field: FieldVersion}
	case !sub.Format.Valid():
		return Sealed{}, &RecordError{Fault: FaultValue, Field: FieldValueFormat}
	}
	out := Sealed{KeyID: k.keyID, WrappedDEK: k.wrapped, Nonce: nonce}
	ciphertext := make([]byte, 0, commitSize+len(plain)+tagSize)
	var err error
	erase.Do(func() { out.Ciphertext, err = sealWith(&k.keys, &sub, nonce, ciphertext, plain) })
	if err != nil {
		return Sealed{}, err
	}
	k.s.sealed.Add(1)
	return out, nil
}

// Destroy zeroes the key. It may be called at any time, also twice.
func (k *DEK) Destroy() {
	k.keys.zero()
	k.spent = true
}
