// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

func TestOpenSealed(t *testing.T) {
	v, _, sink := newTestVault(t, nil)
	var texts [][]byte
	var want []string
	for i := range 20 {
		want = append(want, strings.Repeat("välue ", i)+fmt.Sprint(i))
		texts = append(texts, sealText(t, v, fmt.Sprintf("app/%d", i), int32(i+1), want[i]))
	}
	pair := `{"username":"app","password":"s3cret"}`
	texts = append(texts, sealRecord(t, v, "app/pair", 4, envelope.FormatUserpass, pair, nil))
	want = append(want, pair)

	plains, err := v.OpenSealed(t.Context(), testActor, true, texts)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if string(plains[i].Bytes()) != want[i] {
			t.Errorf("value %d is %q, want %q", i, plains[i].Bytes(), want[i])
		}
	}
	records, buffers := sink.last()
	if buffers != 1 || len(records) != len(texts) {
		t.Fatalf("%d appends, %d records; want 1 append of %d", buffers, len(records), len(texts))
	}
	got := records[3]
	if got.At.IsZero() {
		t.Error("no time")
	}
	got.At = time.Time{}
	if want := (audit.Record{
		Actor: "alice", SessionRole: "app", Addr: testActor.Addr, Face: audit.FaceSQL, Database: "app",
		Action: audit.ActionRead, Secret: "app/3", Version: 4, Outcome: audit.OutcomeOK, Direct: true,
	}); got != want {
		t.Errorf("recorded %+v, want %+v", got, want)
	}
	// The values of a buffer are apart: zeroing or appending to one spares the next.
	_ = append(plains[1].Bytes(), "xxxx"...)
	plains[0].Zero()
	if string(plains[2].Bytes()) != want[2] {
		t.Error("a value was overwritten by its neighbour")
	}
}

func TestOpenSealedNothing(t *testing.T) {
	v, _, sink := newTestVault(t, nil)
	if plains, err := v.OpenSealed(t.Context(), testActor, true, nil); plains != nil || err != nil {
		t.Errorf("got %v, %v", plains, err)
	}
	if _, n := sink.last(); n != 0 {
		t.Errorf("%d appends", n)
	}
}

// Every forgery is one and the same error to the client.
func TestForgeries(t *testing.T) {
	v, kms, sink := newTestVault(t, nil)
	seal := func(change func(*envelope.Record)) []byte {
		return sealRecord(t, v, "a/b", 1, envelope.FormatText, "s3cret", change)
	}
	good := seal(nil)
	for name, tc := range map[string]struct {
		text  []byte
		asked bool // the KMS may have been asked
	}{
		"not a record":         {[]byte("s3cret"), false},
		"empty":                {nil, false},
		"truncated":            {good[:len(good)-4], false},
		"second spelling":      {append(bytes.Clone(good), '\n'), false},
		"other vault":          {seal(func(r *envelope.Record) { r.Vault = envelope.NewUUID() }), false},
		"other KMS key":        {seal(func(r *envelope.Record) { r.KeyID = "local:0000" }), false},
		"other name":           {seal(func(r *envelope.Record) { r.Name = "a/c" }), true},
		"other version":        {seal(func(r *envelope.Record) { r.Version = 2 }), true},
		"other secret":         {seal(func(r *envelope.Record) { r.Secret = envelope.NewUUID() }), true},
		"other format":         {seal(func(r *envelope.Record) { r.Format = envelope.FormatUserpass }), true},
		"changed ciphertext":   {seal(func(r *envelope.Record) { r.Ciphertext[40] ^= 1 }), true},
		"changed commitment":   {seal(func(r *envelope.Record) { r.Ciphertext[0] ^= 1 }), true},
		"changed nonce":        {seal(func(r *envelope.Record) { r.Nonce[0] ^= 1 }), true},
		"changed wrapped key":  {seal(func(r *envelope.Record) { r.WrappedDEK[5] ^= 1 }), true},
		"second of two forged": {nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			before := kms.unwraps.Load()
			texts := [][]byte{tc.text}
			if strings.HasPrefix(name, "second") && tc.text == nil {
				texts = [][]byte{good, seal(func(r *envelope.Record) { r.Version = 9 })}
			}
			plains, err := v.OpenSealed(t.Context(), testActor, false, texts)
			e := asKind(t, err, KindTampered)
			same := tampered("", nil)
			if plains != nil || e.Msg != same.Msg || e.Detail != same.Detail || e.Hint != same.Hint || e.Kind.SQLState() != "XX001" {
				t.Errorf("got %v and %+v", plains, e)
			}
			if asked := kms.unwraps.Load() != before; asked && !tc.asked {
				t.Error("the KMS was asked")
			}
			records, _ := sink.last()
			if len(records) != 1 || records[0].Outcome != audit.OutcomeFailed || records[0].Action != audit.ActionTampering || records[0].Reason != "tampered" {
				t.Errorf("recorded %+v", records)
			}
		})
	}
}

func TestDenied(t *testing.T) {
	v, kms, sink := newTestVault(t, nil)
	text := sealText(t, v, "a/b", 3, "s3cret")
	limited := sealRecord(t, v, "a/c", 1, envelope.FormatText, "s3cret", func(r *envelope.Record) {
		r.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}
	})
	outside, inside := testActor, testActor
	outside.Addr = netip.MustParseAddr("192.0.2.1")
	inside.Addr = netip.MustParseAddr("::ffff:10.9.1.1")
	socket := testActor
	socket.Addr = netip.Addr{}
	for _, tc := range []struct {
		name  string
		actor Actor
		text  []byte
		words []string // of the error; nil: allowed
	}{
		{"allowlist", outside, text, []string{"192.0.2.1", "VAULT_PROXY_ALLOWED_IPS", "node1"}},
		{"allowlist, unix socket", socket, text, []string{"unix socket", "VAULT_PROXY_ALLOWED_IPS", "node1"}},
		{"allowlist, forged record", outside, []byte("hv1.x"), []string{"192.0.2.1", "VAULT_PROXY_ALLOWED_IPS"}},
		{"allowed_cidrs", testActor, limited, []string{"10.1.2.3", "allowed_cidrs", "node1", "a/c"}},
		{"both allow", inside, limited, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := kms.unwraps.Load()
			plains, err := v.OpenSealed(t.Context(), tc.actor, true, [][]byte{tc.text})
			if tc.words == nil {
				if err != nil || string(plains[0].Bytes()) != "s3cret" {
					t.Errorf("got %v, %v", plains, err)
				}
				return
			}
			e := asKind(t, err, KindDenied)
			for _, w := range tc.words {
				if !strings.Contains(e.Msg+e.Detail+e.Hint, w) {
					t.Errorf("%+v does not name %s", e, w)
				}
			}
			if kms.unwraps.Load() != before {
				t.Error("the KMS was asked")
			}
			records, _ := sink.last()
			if len(records) != 1 || records[0].Outcome != audit.OutcomeDenied || records[0].Addr != tc.actor.Addr {
				t.Errorf("recorded %+v", records)
			}
		})
	}
	v.SetAllowedIPs(mustAllow(t, "loopback"), nil)
	if _, err := v.OpenSealed(t.Context(), socket, true, [][]byte{text}); err != nil {
		t.Errorf("after the list was replaced: %v", err)
	}
	v.SetAllowedIPs(nil, nil)
	_, err := v.OpenSealed(t.Context(), socket, true, [][]byte{text})
	wantKind(t, err, KindDenied)
}

func TestBinaryIsNotText(t *testing.T) {
	v, _, _ := newTestVault(t, nil)
	text := sealRecord(t, v, "a/bin", 1, envelope.FormatBytes, "s3cret\xff", nil)
	_, err := v.OpenSealed(t.Context(), testActor, true, [][]byte{text})
	if e := asKind(t, err, KindBinary); e.Kind.SQLState() != "22021" || !strings.Contains(e.Hint, "REST") {
		t.Errorf("got %+v", e)
	}
}

// Without its audit record no value leaves, and what was opened is zeroed.
func TestAuditFails(t *testing.T) {
	v, _, sink := newTestVault(t, nil)
	text := sealText(t, v, "a/b", 1, "s3cret")
	sink.err = errSpool
	plains, err := v.OpenSealed(t.Context(), testActor, true, [][]byte{text})
	e := asKind(t, err, KindAudit)
	if plains != nil || e.Kind.SQLState() != "58030" || !errors.Is(err, errSpool) {
		t.Errorf("got %v, %v", plains, err)
	}
	_, err = v.Match(t.Context(), testActor, "a/b", [][]byte{text}, []byte("s3cret"))
	wantKind(t, err, KindAudit)
}

func TestKMSFails(t *testing.T) {
	v, kms, sink := newTestVault(t, nil)
	text := sealText(t, v, "a/b", 1, "s3cret")
	kms.fail = &envelope.KMSError{Kind: envelope.KMSUnavailable, Err: errors.New("dial tcp 169.254.0.1: internals")}
	_, err := v.OpenSealed(t.Context(), testActor, true, [][]byte{text})
	e := asKind(t, err, KindKMS)
	if shown := e.Msg + e.Detail + e.Hint; e.Kind.SQLState() != "58000" || !strings.Contains(shown, "KMS") || strings.Contains(shown, "internals") {
		t.Errorf("got %+v", e)
	}
	if records, _ := sink.last(); records[0].Reason != "kms" || records[0].Secret != "a/b" {
		t.Errorf("recorded %+v", records)
	}
}

// A client that cancels while the KMS is waited for gets 57014.
func TestCanceledWhileOpening(t *testing.T) {
	v, kms, _ := newTestVault(t, nil)
	text := sealText(t, v, "a/b", 1, "s3cret")
	ctx, cancel := context.WithCancel(t.Context())
	kms.unwrap = func(kctx context.Context) error {
		cancel()
		<-kctx.Done() // the flight outlives its caller; Close ends it
		return kctx.Err()
	}
	_, err := v.OpenSealed(ctx, testActor, true, [][]byte{text})
	wantKind(t, err, KindCanceled)
}

// From the first key that had to be waited for, the rest is opened side by
// side, in bounds; the order stays.
func TestOpensSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		v, kms, sink := newTestVault(t, func(c *Config, k *testKMS) { c.NewSealer = k.sealer(0) })
		defer v.Close() // inside the bubble
		texts := make([][]byte, n)
		for i := range texts {
			texts[i] = sealText(t, v, fmt.Sprintf("app/%d", i), 1, fmt.Sprintf("value %d", i))
		}
		var now, most atomic.Int64
		kms.unwrap = func(ctx context.Context) error {
			for m := now.Add(1); ; {
				if old := most.Load(); m <= old || most.CompareAndSwap(old, m) {
					break
				}
			}
			defer now.Add(-1)
			timer := time.NewTimer(10 * time.Millisecond) // of the bubble's clock
			defer timer.Stop()
			select {
			case <-timer.C:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		start := time.Now()
		plains, err := v.OpenSealed(t.Context(), testActor, true, texts)
		if err != nil {
			t.Fatal(err)
		}
		for i := range plains {
			if want := fmt.Sprintf("value %d", i); string(plains[i].Bytes()) != want {
				t.Fatalf("value %d is %q", i, plains[i].Bytes())
			}
		}
		if most.Load() != envelope.DefaultMaxInflight {
			t.Errorf("%d calls at a time, want %d", most.Load(), envelope.DefaultMaxInflight)
		}
		if d := time.Since(start); d != 30*time.Millisecond { // one, then 99 in two rounds
			t.Errorf("took %v", d)
		}
		if records, buffers := sink.last(); buffers != 1 || len(records) != n {
			t.Errorf("%d appends, %d records in the last", buffers, len(records))
		}

		// One bad record among many: one error, nothing left.
		texts[60] = sealRecord(t, v, "app/60", 1, envelope.FormatText, "s3cret", func(r *envelope.Record) { r.Version = 2 })
		_, err = v.OpenSealed(t.Context(), testActor, true, texts)
		if e := asKind(t, err, KindTampered); e.Secret != "app/60" {
			t.Errorf("blamed %q", e.Secret)
		}
		if records, _ := sink.last(); len(records) != 1 || records[0].Secret != "app/60" {
			t.Errorf("recorded %+v", records)
		}
	})
}

func BenchmarkOpenSealed(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			v, _, _ := newTestVault(b, func(c *Config, k *testKMS) {
				c.Audit = audit.Discard{}
				c.NewSealer = func(id envelope.UUID) (*envelope.Sealer, error) {
					return envelope.New(envelope.Config{KMS: k, Vault: id, KeyID: k.keyID, CacheTTL: time.Hour, CacheEntries: 2048, AllowUnlocked: true})
				}
			})
			texts := make([][]byte, n)
			for i := range texts {
				texts[i] = sealText(b, v, fmt.Sprintf("app/%d", i), 1, "a value of thirty-two characters")
			}
			b.ReportAllocs()
			for b.Loop() {
				plains, err := v.OpenSealed(b.Context(), testActor, true, texts)
				if err != nil {
					b.Fatal(err)
				}
				ZeroAll(plains)
			}
		})
	}
}

// TestManyColdSessions: however many sessions read what nobody has read before, none
// is refused: the KMS takes their keys one after the other.
func TestManyColdSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, kms, _ := newTestVault(t, nil)
		defer v.Close() // inside the bubble
		const sessions, each = 100, 80
		texts := make([][]byte, sessions*each)
		for i := range texts {
			texts[i] = sealText(t, v, fmt.Sprintf("app/%d", i), 1, "value")
		}
		kms.unwrap = func(context.Context) error {
			time.Sleep(10 * time.Millisecond) //nolint:forbidigo // of the bubble's clock
			return nil
		}
		var all sync.WaitGroup
		for i := range sessions {
			all.Go(func() {
				plains, err := v.OpenSealed(t.Context(), testActor, true, texts[i*each:(i+1)*each])
				if err != nil {
					t.Errorf("session %d: %v", i, err)
				}
				ZeroAll(plains)
			})
		}
		all.Wait()
	})
}
