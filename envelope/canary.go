// SPDX-License-Identifier: GPL-3.0-or-later

package envelope

import (
	"bytes"
	"context"
	"fmt"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
)

// CanaryName is the name under which Canary seals. A KMS policy that limits a
// node to certain names must allow it too.
const CanaryName = "hyperion-vault.canary"

// CanaryError is a failed Canary: which key, at which step.
type CanaryError struct {
	KeyID string
	Step  string // "generate", "seal", "unwrap", "open"
	Err   error
}

func (e *CanaryError) Error() string {
	return fmt.Sprintf("kms key %s: %s: %v", e.KeyID, e.Step, e.Err)
}

func (e *CanaryError) Unwrap() error { return e.Err }

// Canary proves that this Sealer's KMS key serves: it seals a made-up record and
// opens it again past the cache, so that the KMS is asked both to make and to
// unwrap a key. The error is a *CanaryError.
func (s *Sealer) Canary(ctx context.Context) error {
	fail := func(step string, err error) error {
		return &CanaryError{KeyID: s.keyID, Step: step, Err: err}
	}
	k, err := s.NewKey(ctx, CanaryName)
	if err != nil {
		return fail("generate", err)
	}
	r := Record{Subject: Subject{Vault: s.vault, Secret: NewUUID(), Name: CanaryName, Version: 1, Format: FormatText}}
	want := []byte("canary")
	if r.Sealed, err = k.Seal(r.Subject, want); err != nil {
		return fail("seal", err)
	}
	f, err := s.unwrap(ctx, recordCacheKey(&r), &r, nil)
	if err != nil {
		return fail("unwrap", err)
	}
	defer s.flights.release(f)
	var got []byte
	erase.Do(func() { got, err = openWith(&f.keys, &r, nil) })
	if err != nil || !bytes.Equal(got, want) {
		return fail("open", ErrTampered)
	}
	return nil
}
