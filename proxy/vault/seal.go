// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"bytes"
	"context"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/erase"
)

// Key is the data key of one version that is about to be written. It seals once.
type Key struct{ dek *envelope.DEK }

// Destroy zeroes a key that was not used. It may be called on nil, and again.
func (k *Key) Destroy() {
	if k != nil && k.dek != nil {
		k.dek.Destroy()
	}
}

// CheckName says whether name can be a secret's name. The error is an *Error
// that states the broken rule and never repeats the name: it may be a value in
// the wrong place.
func CheckName(name string) error {
	if err := envelope.CheckName(name); err != nil {
		return invalidName(err)
	}
	if HoldsToken(name) {
		return invalidName(errNameToken)
	}
	return nil
}

var errNameToken = errors.New("a token of REST is no secret's name")

// CheckValue says whether SQL can carry a value as a secret: text of 1 byte to
// 512 KiB without NUL. The error is an *Error.
func CheckValue(value []byte) error {
	if len(value) == 0 || len(value) > envelope.MaxValue {
		return invalidValue("")
	}
	text := false
	erase.Do(func() { text = utf8.Valid(value) && bytes.IndexByte(value, 0) < 0 })
	if !text {
		return &Error{
			Kind: KindBinary, Msg: "a secret's value must be valid UTF-8 without NUL",
			Hint: "Store binary values by REST, as value_base64.",
		}
	}
	return nil
}

// NewKey asks the KMS for the data key of a new version of the named secret.
// No lock may be held meanwhile. The caller gives the key to Seal or destroys
// it. Errors are *Error.
func (v *Vault) NewKey(ctx context.Context, _ Actor, name string) (*Key, error) {
	k, err := v.newKey(ctx, name)
	if err != nil {
		v.metrics.seal(err)
		return nil, err
	}
	return k, nil
}

func (v *Vault) newKey(ctx context.Context, name string) (*Key, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	s, err := v.ready()
	if err != nil {
		return nil, err
	}
	dek, err := s.NewKey(ctx, name)
	if err != nil {
		return nil, v.sealerError(ctx.Err(), name, err)
	}
	return &Key{dek: dek}, nil
}

// Seal encrypts a text value for exactly this version of this secret and
// returns the hv1 text to put in its place. secretID is the uuid that
// vault.next_version returned. It uses up k, also if it fails. The value stays
// the caller's to zero. Errors are *Error.
func (v *Vault) Seal(k *Key, name, secretID string, version int32, value []byte) ([]byte, error) {
	if err := CheckValue(value); err != nil {
		k.Destroy()
		v.metrics.seal(err)
		return nil, err
	}
	return v.sealAs(k, FormatText, name, secretID, version, value)
}

// sealAs is Seal for a value of any format.
func (v *Vault) sealAs(k *Key, f Format, name, secretID string, version int32, value []byte) ([]byte, error) {
	defer k.Destroy()
	begun := time.Now()
	text, err := v.seal(k, f, name, secretID, version, value)
	v.metrics.sealing.Observe(time.Since(begun).Seconds())
	v.metrics.seal(err)
	return text, err
}

func (v *Vault) seal(k *Key, f Format, name, secretID string, version int32, value []byte) ([]byte, error) {
	s, err := v.ready()
	if err != nil {
		return nil, err
	}
	id, err := envelope.ParseUUID(secretID)
	if err != nil {
		return nil, v.sealerError(nil, name, err)
	}
	r := envelope.Record{Subject: envelope.Subject{
		Vault: s.Vault(), Secret: id, Name: name, Version: version, Format: f,
	}}
	if r.Sealed, err = k.dek.Seal(r.Subject, value); err != nil {
		return nil, v.sealerError(nil, name, err)
	}
	text, err := r.AppendText(nil)
	if err != nil {
		return nil, v.sealerError(nil, name, err)
	}
	return text, nil
}
