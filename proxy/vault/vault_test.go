// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/localkms"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

const testVaultID = "11111111-2222-4333-8444-555555555555"

var errSpool = errors.New("no space left")

// recorder is a sink that keeps a copy of each buffer, or fails.
type recorder struct {
	mu      sync.Mutex
	buffers [][]audit.Record
	err     error
}

func (r *recorder) Append(_ context.Context, records []audit.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buffers = append(r.buffers, slices.Clone(records))
	return r.err
}

func (r *recorder) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// last returns the buffer appended last and how many there were.
func (r *recorder) last() ([]audit.Record, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.buffers) == 0 {
		return nil, 0
	}
	return r.buffers[len(r.buffers)-1], len(r.buffers)
}

// testKMS is a local KMS that counts and, if asked to, fails or waits.
type testKMS struct {
	envelope.KMS
	keyID   string
	unwraps atomic.Int64
	fail    error
	unwrap  func(context.Context) error
}

func (k *testKMS) Generate(ctx context.Context, c envelope.Context) (plain, wrapped []byte, keyID string, err error) {
	if k.fail != nil {
		return nil, nil, "", k.fail
	}
	return k.KMS.Generate(ctx, c)
}

func (k *testKMS) Unwrap(ctx context.Context, keyID string, wrapped []byte, c envelope.Context) ([]byte, error) {
	k.unwraps.Add(1)
	if k.unwrap != nil {
		if err := k.unwrap(ctx); err != nil {
			return nil, err
		}
	}
	if k.fail != nil {
		return nil, k.fail
	}
	return k.KMS.Unwrap(ctx, keyID, wrapped, c)
}

func newTestKMS(tb testing.TB) *testKMS {
	tb.Helper()
	kms, err := localkms.New(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		tb.Fatal(err)
	}
	return &testKMS{KMS: kms, keyID: kms.KeyID()}
}

// sealer returns a NewSealer of the KMS.
func (k *testKMS) sealer(ttl time.Duration) func(envelope.UUID) (*envelope.Sealer, error) {
	return func(id envelope.UUID) (*envelope.Sealer, error) {
		return envelope.New(envelope.Config{KMS: k, Vault: id, KeyID: k.keyID, CacheTTL: ttl, CacheEntries: 64, AllowUnlocked: true})
	}
}

func mustAllow(tb testing.TB, s string) *AllowList {
	tb.Helper()
	l, err := ParseAllowList(s)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// newTestVault returns a Vault that knows its id and needs no server.
func newTestVault(tb testing.TB, change func(*Config, *testKMS)) (*Vault, *testKMS, *recorder) {
	tb.Helper()
	pin, err := PinVaultID(tb.TempDir(), testVaultID)
	if err != nil {
		tb.Fatal(err)
	}
	kms, sink := newTestKMS(tb), &recorder{}
	c := Config{
		Node: "node1", Local: Server{"tcp", "127.0.0.1:1"}, User: "vault_service", Database: "app",
		Pin: pin, NewSealer: kms.sealer(time.Minute), AllowedIPs: mustAllow(tb, "10.0.0.0/8"), Audit: sink,
	}
	if change != nil {
		change(&c, kms)
	}
	v, err := New(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(v.Close)
	return v, kms, sink
}

var testActor = Actor{Name: "alice", Role: "app", Via: ViaSQL, Addr: netip.MustParseAddr("10.1.2.3"), Database: "app"}

const testSecretID = "99999999-8888-4777-8666-555555555555"

// sealText seals a value as the proxy does.
func sealText(tb testing.TB, v *Vault, name string, version int32, value string) []byte {
	tb.Helper()
	k, err := v.NewKey(tb.Context(), testActor, name)
	if err != nil {
		tb.Fatal(err)
	}
	text, err := v.Seal(k, name, testSecretID, version, []byte(value))
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// sealRecord seals a record of any format and lets change edit it.
func sealRecord(tb testing.TB, v *Vault, name string, version int32, f envelope.ValueFormat, value string, change func(*envelope.Record)) []byte {
	tb.Helper()
	s := v.sealer.Load()
	k, err := s.NewKey(tb.Context(), name)
	if err != nil {
		tb.Fatal(err)
	}
	r := envelope.Record{Subject: envelope.Subject{Vault: s.Vault(), Secret: envelope.NewUUID(), Name: name, Version: version, Format: f}}
	if r.Sealed, err = k.Seal(r.Subject, []byte(value)); err != nil {
		tb.Fatal(err)
	}
	if change != nil {
		change(&r)
	}
	text, err := r.AppendText(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// wantKind checks an error's kind and that it is an *Error without the value.
func wantKind(t *testing.T, err error, want Kind) {
	t.Helper()
	_ = asKind(t, err, want) // checked there
}

// asKind is wantKind for tests that look further.
func asKind(t *testing.T, err error, want Kind) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v is not an *Error", err)
	}
	if e.Kind != want {
		t.Fatalf("error %v of kind %v, want %v", err, e.Kind, want)
	}
	if strings.Contains(e.Error()+e.Hint, "s3cret") {
		t.Errorf("the error holds the value: %v", e)
	}
	return e
}

func TestNewRefuses(t *testing.T) {
	pin, err := PinVaultID(t.TempDir(), testVaultID)
	if err != nil {
		t.Fatal(err)
	}
	kms := newTestKMS(t)
	good := Config{Local: Server{"tcp", "127.0.0.1:1"}, User: "u", Database: "d", Pin: pin, NewSealer: kms.sealer(0)}
	for name, change := range map[string]func(*Config){
		"no pin":       func(c *Config) { c.Pin = nil },
		"no sealer":    func(c *Config) { c.NewSealer = nil },
		"no server":    func(c *Config) { c.Local = Server{} },
		"no user":      func(c *Config) { c.User = "" },
		"no database":  func(c *Config) { c.Database = "" },
		"no port":      func(c *Config) { c.Local.Addr = "127.0.0.1" },
		"bad sslmode":  func(c *Config) { c.SSLMode = "maybe" },
		"no root cert": func(c *Config) { c.SSLMode = "verify-full"; c.SSLRootCert = "/nonexistent" },
		"sealer fails": func(c *Config) { c.NewSealer = func(envelope.UUID) (*envelope.Sealer, error) { return nil, errSpool } },
		"sealer of other": func(c *Config) {
			c.NewSealer = func(envelope.UUID) (*envelope.Sealer, error) { return kms.sealer(0)(envelope.NewUUID()) }
		},
	} {
		c := good
		change(&c)
		if v, err := New(c); err == nil {
			v.Close()
			t.Errorf("%s: New succeeded", name)
		}
	}
}

// Before the vault id is known nothing is sealed or opened, and nothing panics.
func TestUnknownVault(t *testing.T) {
	pin, err := PinVaultID(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	other, _, _ := newTestVault(t, nil)
	text := sealText(t, other, "a/b", 1, "s3cret")
	v, _, _ := newTestVault(t, func(c *Config, _ *testKMS) { c.Pin = pin })
	v.Flush()
	_, err = v.NewKey(t.Context(), testActor, "a/b")
	wantKind(t, err, KindNotReady)
	_, err = v.OpenSealed(t.Context(), testActor, true, [][]byte{text})
	wantKind(t, err, KindNotReady)
	_, err = v.Match(t.Context(), testActor, "a/b", [][]byte{text}, []byte("s3cret"))
	wantKind(t, err, KindNotReady)
	wantKind(t, v.Canary(t.Context()), KindNotReady)
	wantKind(t, v.Health().Err, KindNotReady)

	id, err := envelope.ParseUUID(testVaultID)
	if err != nil {
		t.Fatal(err)
	}
	if err := pin.Check(id); err != nil { // as Status does at the first contact
		t.Fatal(err)
	}
	if err := v.start(id); err != nil {
		t.Fatal(err)
	}
	plains, err := v.OpenSealed(t.Context(), testActor, true, [][]byte{text})
	if err != nil || string(plains[0].Bytes()) != "s3cret" {
		t.Errorf("after the first contact: %v, %v", plains, err)
	}
	if err := v.Canary(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestClosed(t *testing.T) {
	v, _, _ := newTestVault(t, nil)
	text := sealText(t, v, "a/b", 1, "s3cret")
	v.Close()
	_, err := v.NewKey(t.Context(), testActor, "a/b")
	wantKind(t, err, KindNotReady)
	_, err = v.OpenSealed(t.Context(), testActor, true, [][]byte{text})
	wantKind(t, err, KindNotReady)
	v.Close()
}

func TestGenerateValue(t *testing.T) {
	v, _, _ := newTestVault(t, nil)
	a, b := v.GenerateValue(), v.GenerateValue()
	if len(a) != 43 || bytes.Equal(a, b) || CheckValue(a) != nil || bytes.ContainsAny(a, "+/=") {
		t.Errorf("generated %d bytes; equal to the next: %v", len(a), bytes.Equal(a, b))
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	v, _, _ := newTestVault(t, func(c *Config, _ *testKMS) { c.Registerer = reg })
	text := sealText(t, v, "a/b", 1, "s3cret")
	if _, err := v.OpenSealed(t.Context(), testActor, true, [][]byte{text, text}); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			for _, l := range m.GetLabel() {
				if !slices.Contains([]string{"outcome", "state", "cause", "phase"}, l.GetName()) {
					t.Errorf("%s has label %s", f.GetName(), l.GetName())
				}
			}
		}
	}
	for name, want := range map[string]float64{
		"hyperion_vault_opens_total": 2, "hyperion_vault_seals_total": 1, "hyperion_vault_kms_calls_total": 2,
		"hyperion_vault_dek_cache_hits_total": 1, "hyperion_vault_dek_cache_misses_total": 1, "hyperion_vault_dek_cache_entries": 1,
	} {
		if got[name] != want {
			t.Errorf("%s = %v, want %v", name, got[name], want)
		}
	}
}
