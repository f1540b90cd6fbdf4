// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestDoubt: a server that breaks off is doubted, and none is because a client left.
func TestDoubt(t *testing.T) {
	left, leave := context.WithCancel(t.Context())
	leave()
	late, end := context.WithTimeout(t.Context(), 0)
	defer end()
	for name, c := range map[string]struct {
		ctx   context.Context //nolint:containedctx // what the test is about
		known bool
	}{"broke off": {t.Context(), false}, "took too long": {late, false}, "the client left": {left, true}} {
		p := Primary{Timeline: 1}
		v := &Vault{}
		v.primary.Store(&primaryAnswer{primary: p})
		err := v.writeError(c.ctx, p, "a", io.ErrUnexpectedEOF)
		if (err.Kind == KindCanceled) != c.known { // only who has left has cancelled
			t.Errorf("%s: %v", name, err)
		}
		if known := v.primary.Load() != nil; known != c.known {
			t.Errorf("%s: known %v, want %v", name, known, c.known)
		}
	}
}

// TestFrozenRollback: a primary that stands still when a write is refused keeps neither who
// wrote nor those who wait for the same name.
func TestFrozenRollback(t *testing.T) {
	t.Parallel()
	at, frozen := frozenServer(t, "1 f 00000001")
	v, _, _ := newTestVault(t, func(c *Config, _ *testKMS) { c.SSLMode, c.AllowTrust = "disable", true })
	v.primary.Store(&primaryAnswer{at: time.Now().Add(time.Hour), primary: Primary{at, "1", 1}})
	ended := make(chan error, 1)
	go func() {
		ended <- v.transact(t.Context(), "a", nil, func(context.Context, pgx.Tx) error {
			close(frozen)
			return missing("a")
		}, nil)
	}()
	select {
	case err := <-ended:
		wantKind(t, err, KindMissing)
	case <-time.After(writeTimeout):
		t.Error("it waits for the ROLLBACK")
	}
}
