// SPDX-License-Identifier: GPL-3.0-or-later

package envelope_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
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

// TestFlips: no single bit of what is sealed can change.
func TestFlips(t *testing.T) {
	kms := newLocal(t, 1)
	s := newSealer(t, kms, kms.KeyID(), nil)
	r := seal(t, s, "app/db/password", []byte("s3cr3t"))
	if _, err := s.Open(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	for name, field := range map[string][]byte{"wrapped dek": r.WrappedDEK, "nonce": r.Nonce, "ciphertext": r.Ciphertext} {
		for i := range field {
			for bit := range 8 {
				field[i] ^= 1 << bit
				dst := make([]byte, 3, 64)
				got, err := s.Open(t.Context(), r, dst)
				if !errors.Is(err, envelope.ErrTampered) || len(got) != 3 {
					t.Errorf("%s byte %d bit %d: got %d bytes, %v; want ErrTampered", name, i, bit, len(got), err)
				}
				if !bytes.Equal(dst[:64], make([]byte, 64)) {
					t.Errorf("%s byte %d bit %d: plaintext left in dst", name, i, bit)
				}
				field[i] ^= 1 << bit
			}
		}
	}
	if _, err := s.Open(t.Context(), r, nil); err != nil {
		t.Errorf("with every bit back in its place: %v", err)
	}
}

// TestOpenSubject: every part of the subject counts, with the key cached and not.
func TestOpenSubject(t *testing.T) {
	kms := newTestKMS(t)
	s := newSealer(t, kms, kms.KeyID(), nil)
	r := seal(t, s, "a", []byte("value"))
	if _, err := s.Open(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		edit  func(r *envelope.Record)
		calls int32 // of the KMS
	}{
		"vault":             {func(r *envelope.Record) { r.Vault[15] ^= 1 }, 0},
		"key id":            {func(r *envelope.Record) { r.KeyID += "0" }, 0},
		"no key id":         {func(r *envelope.Record) { r.KeyID = "" }, 0},
		"secret":            {func(r *envelope.Record) { r.Secret[0] ^= 1 }, 0},
		"version":           {func(r *envelope.Record) { r.Version++ }, 0},
		"format":            {func(r *envelope.Record) { r.Format = envelope.FormatBytes }, 0},
		"name":              {func(r *envelope.Record) { r.Name = "b" }, 1},
		"no nonce":          {func(r *envelope.Record) { r.Nonce = nil }, 0},
		"short nonce":       {func(r *envelope.Record) { r.Nonce = r.Nonce[:12] }, 0},
		"no ciphertext":     {func(r *envelope.Record) { r.Ciphertext = nil }, 0},
		"commitment only":   {func(r *envelope.Record) { r.Ciphertext = r.Ciphertext[:32] }, 0},
		"empty value":       {func(r *envelope.Record) { r.Ciphertext = r.Ciphertext[:48] }, 0},
		"huge ciphertext":   {func(r *envelope.Record) { r.Ciphertext = make([]byte, 1<<20) }, 0},
		"no wrapped dek":    {func(r *envelope.Record) { r.WrappedDEK = nil }, 0},
		"huge wrapped dek":  {func(r *envelope.Record) { r.WrappedDEK = make([]byte, 6145) }, 0},
		"other wrapped dek": {func(r *envelope.Record) { r.WrappedDEK = seal(t, s, "a", []byte("value")).WrappedDEK }, 1},
	} {
		bad := *r
		c.edit(&bad)
		before := kms.unwraps.Load()
		if got, err := s.Open(t.Context(), &bad, nil); !errors.Is(err, envelope.ErrTampered) || got != nil {
			t.Errorf("%s: got %q, %v; want ErrTampered", name, got, err)
		}
		if got := kms.unwraps.Load() - before; got != c.calls {
			t.Errorf("%s: got %d KMS calls, want %d", name, got, c.calls)
		}
	}
}

// TestOpenAnswer: a KMS that unwraps to what is no data key.
func TestOpenAnswer(t *testing.T) {
	kms := newLocal(t, 1)
	r := seal(t, newSealer(t, kms, kms.KeyID(), nil), "a", []byte("value"))
	for _, n := range []int{0, 16, 31, 33, 64} {
		answer := &answerKMS{plain: bytes.Repeat([]byte{1}, n)}
		if _, err := newSealer(t, answer, kms.KeyID(), nil).Open(t.Context(), r, nil); !errors.Is(err, envelope.ErrTampered) {
			t.Errorf("%d bytes: got %v, want ErrTampered", n, err)
		}
		if !bytes.Equal(answer.plain, make([]byte, n)) {
			t.Errorf("%d bytes: the answer is not zeroed", n)
		}
	}
}

// routeKMS unwraps with whichever local KMS has the key.
type routeKMS struct {
	*localkms.KMS
	old *localkms.KMS
}

func (k routeKMS) Unwrap(ctx context.Context, keyID string, wrapped []byte, c envelope.Context) ([]byte, error) {
	if keyID == k.old.KeyID() {
		return k.old.Unwrap(ctx, keyID, wrapped, c)
	}
	return k.KMS.Unwrap(ctx, keyID, wrapped, c)
}

func TestDecryptKeyIDs(t *testing.T) {
	old, current := newLocal(t, 1), newLocal(t, 2)
	r := seal(t, newSealer(t, old, old.KeyID(), nil), "a", []byte("value"))
	both := routeKMS{current, old}
	if _, err := newSealer(t, both, current.KeyID(), nil).Open(t.Context(), r, nil); !errors.Is(err, envelope.ErrTampered) {
		t.Errorf("not configured: got %v, want ErrTampered", err)
	}
	s := newSealer(t, both, current.KeyID(), func(c *envelope.Config) { c.DecryptKeyIDs = []string{old.KeyID()} })
	if got, err := s.Open(t.Context(), r, nil); err != nil || string(got) != "value" {
		t.Errorf("configured: got %q, %v", got, err)
	}
	if got := seal(t, s, "a", []byte("value")).KeyID; got != current.KeyID() || s.KeyID() != got {
		t.Errorf("sealed under %s, want %s", got, current.KeyID())
	}
}

// TestTogether opens from many goroutines through a cache that is too small,
// with flushes in between.
func TestTogether(t *testing.T) {
	kms := newTestKMS(t)
	s := newSealer(t, kms, kms.KeyID(), func(c *envelope.Config) { c.CacheEntries, c.MaxInflight = 8, 4 })
	var rs []*envelope.Record
	for i := range 32 {
		rs = append(rs, seal(t, s, fmt.Sprintf("n%d", i), fmt.Appendf(nil, "value %d", i)))
	}
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 400 {
				n := (i*7 + g) % len(rs)
				got, err := s.Open(t.Context(), rs[n], nil)
				if want := fmt.Sprintf("value %d", n); err != nil || string(got) != want {
					t.Errorf("got %q, %v; want %q", got, err, want)
				}
				if i%100 == 99 {
					s.Flush()
				}
				_ = s.Stats()
			}
		})
	}
	all.Wait()
	if got := s.Stats(); got.Cached > 8 || got.Capacity != 8 || got.Hits+got.Misses != 3200 || got.Opens != 3200 || kms.most.Load() > 4 {
		t.Errorf("got %+v, up to %d KMS calls at one time", got, kms.most.Load())
	}
	s.Flush()
	if !bytes.Equal(s.Slots(), make([]byte, len(s.Slots()))) {
		t.Error("the cache's memory is not zeroed by Flush")
	}
}

func TestNewRefuses(t *testing.T) {
	kms := newLocal(t, 1)
	for name, edit := range map[string]func(c *envelope.Config){
		"no kms":             func(c *envelope.Config) { c.KMS = nil },
		"no vault":           func(c *envelope.Config) { c.Vault = envelope.UUID{} },
		"no key id":          func(c *envelope.Config) { c.KeyID = "" },
		"bad key id":         func(c *envelope.Config) { c.KeyID = "a b" },
		"empty decrypt key":  func(c *envelope.Config) { c.DecryptKeyIDs = []string{"a", ""} },
		"negative ttl":       func(c *envelope.Config) { c.CacheTTL = -1 },
		"negative entries":   func(c *envelope.Config) { c.CacheEntries = -1 },
		"negative timeout":   func(c *envelope.Config) { c.FlightTimeout = -1 },
		"negative in flight": func(c *envelope.Config) { c.MaxInflight = -1 },
	} {
		c := envelope.Config{KMS: kms, Vault: testVault, KeyID: kms.KeyID()}
		edit(&c)
		if s, err := envelope.New(c); err == nil {
			s.Close()
			t.Errorf("%s: got no error", name)
		}
	}
	s := newSealer(t, kms, kms.KeyID(), func(c *envelope.Config) { c.CacheEntries = 0 })
	if got := s.Stats().Capacity; got != envelope.DefaultCacheEntries || s.Vault() != testVault {
		t.Errorf("got a capacity of %d, want %d", got, envelope.DefaultCacheEntries)
	}
}

func TestCanary(t *testing.T) {
	kms := newTestKMS(t)
	s := newSealer(t, kms, kms.KeyID(), nil)
	for want := range int32(2) { // asks each time
		if err := s.Canary(t.Context()); err != nil || kms.generates.Load() != want+1 || kms.unwraps.Load() != want+1 {
			t.Errorf("got %v after %d and %d calls", err, kms.generates.Load(), kms.unwraps.Load())
		}
	}
	if n := s.Stats().Cached; n != 0 {
		t.Errorf("%d keys of canaries are cached", n)
	}
	for step, kms := range map[string]envelope.KMS{
		"generate": &answerKMS{err: kmsErr(envelope.KMSDenied)},
		"unwrap":   denyUnwrap{kms},
		"open":     &twoFaced{answerKMS: answerKMS{wrapped: []byte{1}, keyID: s.KeyID()}},
	} {
		err := newSealer(t, kms, s.KeyID(), nil).Canary(t.Context())
		var c *envelope.CanaryError
		if !errors.As(err, &c) || c.KeyID != s.KeyID() || c.Step != step || !strings.Contains(err.Error(), s.KeyID()+": "+step) {
			t.Errorf("%s: got %v", step, err)
		}
	}
}

type denyUnwrap struct{ envelope.KMS }

func (denyUnwrap) Unwrap(context.Context, string, []byte, envelope.Context) ([]byte, error) {
	return nil, kmsErr(envelope.KMSDenied)
}

// twoFaced gives another key at each call.
type twoFaced struct {
	answerKMS
	calls byte
}

func (k *twoFaced) next() []byte {
	k.calls++
	return bytes.Repeat([]byte{k.calls}, 32)
}

func (k *twoFaced) Generate(context.Context, envelope.Context) (plain, wrapped []byte, keyID string, err error) {
	return k.next(), k.wrapped, k.keyID, nil
}

func (k *twoFaced) Unwrap(context.Context, string, []byte, envelope.Context) ([]byte, error) {
	return k.next(), nil
}
