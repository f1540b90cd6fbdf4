// SPDX-License-Identifier: GPL-3.0-or-later

package envelope_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/envelope"
)

func TestDEKSealsOnce(t *testing.T) {
	kms := newLocal(t, 1)
	s := newSealer(t, kms, kms.KeyID(), nil)
	good := envelope.Subject{Vault: testVault, Secret: envelope.UUID{1}, Name: "a", Version: 1, Format: envelope.FormatText}
	for name, c := range map[string]struct {
		edit  func(sub *envelope.Subject)
		value int
		want  error
	}{
		"good":           {nil, 1, nil},
		"longest value":  {nil, envelope.MaxValue, nil},
		"empty value":    {nil, 0, envelope.ErrValue},
		"too long":       {nil, envelope.MaxValue + 1, envelope.ErrValue},
		"another name":   {func(sub *envelope.Subject) { sub.Name = "b" }, 1, envelope.ErrSubject},
		"another vault":  {func(sub *envelope.Subject) { sub.Vault[0] ^= 1 }, 1, envelope.ErrSubject},
		"no version":     {func(sub *envelope.Subject) { sub.Version = 0 }, 1, envelope.ErrMalformed},
		"no format":      {func(sub *envelope.Subject) { sub.Format = 0 }, 1, envelope.ErrMalformed},
		"unknown format": {func(sub *envelope.Subject) { sub.Format = 4 }, 1, envelope.ErrMalformed},
	} {
		k, err := s.NewKey(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(k.Keys(), make([]byte, 64)) {
			t.Fatal("a new key is zero")
		}
		sub := good
		if c.edit != nil {
			c.edit(&sub)
		}
		value := bytes.Repeat([]byte("v"), c.value)
		if _, err := k.Seal(sub, value); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		if !bytes.Equal(k.Keys(), make([]byte, 64)) {
			t.Errorf("%s: the key is not zeroed", name)
		}
		if _, err := k.Seal(good, []byte("v")); !errors.Is(err, envelope.ErrSpent) {
			t.Errorf("%s: the second time: got %v, want ErrSpent", name, err)
		}
		k.Destroy()
	}
	k, err := s.NewKey(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	k.Destroy()
	if _, err := k.Seal(good, []byte("v")); !errors.Is(err, envelope.ErrSpent) || !bytes.Equal(k.Keys(), make([]byte, 64)) {
		t.Errorf("after Destroy: got %v, want ErrSpent and zeroes", err)
	}
}

// TestSealAnew: the same value sealed twice has nothing in common.
func TestSealAnew(t *testing.T) {
	kms := newLocal(t, 1)
	s := newSealer(t, kms, kms.KeyID(), nil)
	a, b := seal(t, s, "a", []byte("value")), seal(t, s, "a", []byte("value"))
	if bytes.Equal(a.Nonce, b.Nonce) || bytes.Equal(a.WrappedDEK, b.WrappedDEK) || bytes.Equal(a.Ciphertext[:32], b.Ciphertext[:32]) {
		t.Error("two sealings share a nonce, a key or a commitment")
	}
}

// answerKMS answers Generate as told, and keeps what it answered.
type answerKMS struct {
	envelope.KMS
	plain, wrapped []byte
	keyID          string
	err            error
}

func (k *answerKMS) Generate(context.Context, envelope.Context) (plain, wrapped []byte, keyID string, err error) {
	return k.plain, k.wrapped, k.keyID, k.err
}

func (k *answerKMS) Unwrap(context.Context, string, []byte, envelope.Context) ([]byte, error) {
	return k.plain, k.err
}

func TestNewKeyRefuses(t *testing.T) {
	ones := func(n int) []byte { return bytes.Repeat([]byte{1}, n) }
	for name, c := range map[string]struct {
		kms  answerKMS
		kind envelope.KMSErrorKind
		text string
	}{
		"denied":           {answerKMS{err: kmsErr(envelope.KMSDenied)}, envelope.KMSDenied, ""},
		"unclassified":     {answerKMS{err: errors.New("broken pipe")}, envelope.KMSUnavailable, "broken pipe"},
		"error with key":   {answerKMS{plain: ones(32), err: kmsErr(envelope.KMSInvalid)}, envelope.KMSInvalid, ""},
		"another key":      {answerKMS{plain: ones(32), wrapped: ones(1), keyID: "other"}, envelope.KMSInvalid, `it answered with key "other"`},
		"short key":        {answerKMS{plain: ones(31), wrapped: ones(1), keyID: "k"}, envelope.KMSInvalid, "another size"},
		"long key":         {answerKMS{plain: ones(33), wrapped: ones(1), keyID: "k"}, envelope.KMSInvalid, "another size"},
		"no wrapped key":   {answerKMS{plain: ones(32), keyID: "k"}, envelope.KMSInvalid, "0 bytes"},
		"huge wrapped key": {answerKMS{plain: ones(32), wrapped: ones(6145), keyID: "k"}, envelope.KMSInvalid, "6145 bytes"},
		"nothing at all":   {answerKMS{keyID: "k", wrapped: ones(1)}, envelope.KMSInvalid, "another size"},
	} {
		s := newSealer(t, &c.kms, "k", nil)
		k, err := s.NewKey(t.Context(), "a")
		var e *envelope.KMSError
		if k != nil || !errors.As(err, &e) || e.Kind != c.kind || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: got %v, %v; want %v with %q", name, k, err, c.kind, c.text)
		}
		if len(bytes.Trim(c.kms.plain, "\x00")) != 0 {
			t.Errorf("%s: the KMS's answer is not zeroed", name)
		}
	}
	s := newSealer(t, &answerKMS{}, "k", nil)
	if _, err := s.NewKey(t.Context(), "a b"); !errors.Is(err, envelope.ErrName) || s.Stats().KMSCalls != 0 {
		t.Errorf("got %v after %d calls, want ErrName after none", err, s.Stats().KMSCalls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	kms := newLocal(t, 1)
	if _, err := newSealer(t, kms, kms.KeyID(), nil).NewKey(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
}
