// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"io"
	"testing"
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
