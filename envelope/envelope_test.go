// SPDX-License-Identifier: GPL-3.0-or-later

package envelope_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/localkms"
)

// newLocal is a local KMS whose master key is 32 times the given byte.
func newLocal(tb testing.TB, b byte) *localkms.KMS {
	tb.Helper()
	k, err := localkms.New(bytes.Repeat([]byte{b}, localkms.MasterSize))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

var testVault = envelope.UUID{0x11, 0x11, 15: 0x11}

// newSealer is a Sealer over kms, closed at the end of the test.
func newSealer(tb testing.TB, kms envelope.KMS, keyID string, edit func(*envelope.Config)) *envelope.Sealer {
	tb.Helper()
	c := envelope.Config{
		KMS: kms, Vault: testVault, KeyID: keyID,
		CacheTTL: 300 * time.Second, CacheEntries: 128, FlightTimeout: 10 * time.Second,
	}
	if edit != nil {
		edit(&c)
	}
	s, err := envelope.New(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// seal makes a record of value.
func seal(tb testing.TB, s *envelope.Sealer, name string, value []byte) *envelope.Record {
	tb.Helper()
	k, err := s.NewKey(tb.Context(), name)
	if err != nil {
		tb.Fatal(err)
	}
	r := &envelope.Record{Subject: envelope.Subject{
		Vault: s.Vault(), Secret: envelope.NewUUID(), Name: name, Version: 1, Format: envelope.FormatText,
	}}
	if r.Sealed, err = k.Seal(r.Subject, value); err != nil {
		tb.Fatal(err)
	}
	return r
}

func TestSealOpen(t *testing.T) {
	kms := newLocal(t, 1)
	s := newSealer(t, kms, kms.KeyID(), nil)
	want := "correct horse battery staple"
	r := seal(t, s, "app/db/password", []byte(want))
	text, err := r.AppendText(nil)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte("horse")) {
		t.Error("the text shows the value")
	}
	parsed, err := envelope.ParseRecord(text)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a miss, a hit
		got, err := s.Open(t.Context(), &parsed, []byte("x:"))
		if err != nil || string(got) != "x:"+want {
			t.Errorf("got %q, %v; want %q", got, err, "x:"+want)
		}
	}
	got := s.Stats()
	if got.Hits != 1 || got.Misses != 1 || got.Opens != 2 || got.Seals != 1 || got.KMSCalls != 2 || got.Cached != 1 || !got.Locked {
		t.Errorf("got stats %+v", got)
	}
	parsed.Version = 2
	if out, err := s.Open(t.Context(), &parsed, nil); !errors.Is(err, envelope.ErrTampered) || out != nil {
		t.Errorf("another version: got %q, %v; want ErrTampered", out, err)
	}
}

func TestCanary(t *testing.T) {
	kms := newLocal(t, 1)
	if err := newSealer(t, kms, kms.KeyID(), nil).Canary(t.Context()); err != nil {
		t.Error(err)
	}
	err := newSealer(t, kms, "local:other", nil).Canary(t.Context())
	var c *envelope.CanaryError
	if !errors.As(err, &c) || c.KeyID != "local:other" || c.Step != "generate" {
		t.Errorf("got %v, want a CanaryError for local:other", err)
	}
}
