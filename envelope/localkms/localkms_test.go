// SPDX-License-Identifier: GPL-3.0-or-later

package localkms_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/localkms"
)

func newKMS(t *testing.T, b byte) *localkms.KMS {
	t.Helper()
	master := bytes.Repeat([]byte{b}, 32)
	k, err := localkms.New(master)
	if err != nil {
		t.Fatal(err)
	}
	clear(master) // it keeps no reference
	return k
}

func TestMasterSize(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33, 64} {
		if _, err := localkms.New(make([]byte, n)); err == nil {
			t.Errorf("%d bytes: got no error", n)
		}
	}
}

func TestKeyID(t *testing.T) {
	a, b := newKMS(t, 1).KeyID(), newKMS(t, 2).KeyID()
	if a == b || a != newKMS(t, 1).KeyID() || !strings.HasPrefix(a, "local:") || len(a) != len("local:")+32 {
		t.Errorf("got %s and %s, want a fingerprint of each", a, b)
	}
}

func TestWrap(t *testing.T) {
	k := newKMS(t, 1)
	c := envelope.Context{Vault: envelope.UUID{1}, Secret: "a"}
	plain, wrapped, id, err := k.Generate(t.Context(), c)
	if err != nil || len(plain) != 32 || len(wrapped) != 72 || id != k.KeyID() {
		t.Fatalf("got %d and %d bytes under %s, %v", len(plain), len(wrapped), id, err)
	}
	if bytes.Contains(wrapped, plain[:8]) {
		t.Error("the wrapped key shows the key")
	}
	if again, _, _, err := k.Generate(t.Context(), c); err != nil || bytes.Equal(again, plain) {
		t.Errorf("the same key twice (%v)", err)
	}
	if got, err := newKMS(t, 1).Unwrap(t.Context(), id, wrapped, c); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("got %x, %v; want %x", got, err, plain)
	}

	kind := func(name string, want envelope.KMSErrorKind, k *localkms.KMS, id string, wrapped []byte, c envelope.Context) {
		t.Helper()
		got, err := k.Unwrap(t.Context(), id, wrapped, c)
		var e *envelope.KMSError
		if got != nil || !errors.As(err, &e) || e.Kind != want {
			t.Errorf("%s: got %x, %v; want %v", name, got, err, want)
		}
	}
	kind("another name", envelope.KMSInvalid, k, id, wrapped, envelope.Context{Vault: c.Vault, Secret: "b"})
	kind("another vault", envelope.KMSInvalid, k, id, wrapped, envelope.Context{Vault: envelope.UUID{2}, Secret: "a"})
	kind("another master key", envelope.KMSNotFound, newKMS(t, 2), id, wrapped, c)
	kind("another master key's id", envelope.KMSInvalid, newKMS(t, 2), newKMS(t, 2).KeyID(), wrapped, c)
	for _, n := range []int{0, 1, 24, 40, 71} {
		kind("cut", envelope.KMSInvalid, k, id, wrapped[:n], c)
	}
	kind("longer", envelope.KMSInvalid, k, id, append(bytes.Clone(wrapped), 0), c)
	for i := range wrapped {
		bad := bytes.Clone(wrapped)
		bad[i] ^= 1
		kind("a bit", envelope.KMSInvalid, k, id, bad, c)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	k := newKMS(t, 1)
	if _, _, _, err := k.Generate(ctx, envelope.Context{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
	if _, err := k.Unwrap(ctx, k.KeyID(), nil, envelope.Context{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
}

func TestTogether(t *testing.T) {
	k := newKMS(t, 1)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 100 {
				plain, wrapped, id, err := k.Generate(t.Context(), envelope.Context{Secret: "a"})
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := k.Unwrap(t.Context(), id, wrapped, envelope.Context{Secret: "a"}); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("got %x, %v; want %x", got, err, plain)
				}
			}
		})
	}
	all.Wait()
}
