// SPDX-License-Identifier: GPL-3.0-or-later

package envelope_test

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/localkms"
)

// testKMS is the local KMS with a switch: it counts, fails and waits as told.
type testKMS struct {
	*localkms.KMS
	unwraps, generates, inside, most atomic.Int32

	mu   sync.Mutex
	fail error         // the answer, unless nil
	gate chan struct{} // calls wait until it is closed, unless nil
}

func newTestKMS(tb testing.TB) *testKMS {
	tb.Helper()
	return &testKMS{KMS: newLocal(tb, 1)}
}

func (k *testKMS) set(fail error, gate chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail, k.gate = fail, gate
}

// pass waits at the gate and returns the failure that was set at first.
func (k *testKMS) pass(ctx context.Context) error {
	k.mu.Lock()
	fail, gate := k.fail, k.gate
	k.mu.Unlock()
	n := k.inside.Add(1)
	defer k.inside.Add(-1)
	for most := k.most.Load(); n > most && !k.most.CompareAndSwap(most, n); most = k.most.Load() {
	}
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return &envelope.KMSError{Kind: envelope.KMSUnavailable, Err: ctx.Err()}
		}
	}
	return fail
}

func (k *testKMS) Generate(ctx context.Context, c envelope.Context) (plain, wrapped []byte, keyID string, err error) {
	k.generates.Add(1)
	if err := k.pass(ctx); err != nil {
		return nil, nil, "", err
	}
	return k.KMS.Generate(ctx, c)
}

func (k *testKMS) Unwrap(ctx context.Context, keyID string, wrapped []byte, c envelope.Context) ([]byte, error) {
	k.unwraps.Add(1)
	if err := k.pass(ctx); err != nil {
		return nil, err
	}
	return k.KMS.Unwrap(ctx, keyID, wrapped, c)
}

func TestContext(t *testing.T) {
	c := envelope.Context{Vault: testVault, Secret: "app/x"}
	want := map[string]string{"vault": "11110000-0000-0000-0000-000000000011", "secret": "app/x"}
	if got := c.Map(); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := string(c.AppendCanonical([]byte("x"))),
		"x\x00\x00\x00\x08hv/ctx/1\x00\x00\x00\x06secret\x00\x00\x00\x05app/x\x00\x00\x00\x05vault\x00\x00\x00\x24"+want["vault"]; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
