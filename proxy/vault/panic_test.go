// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"log/slog"
	"strings"
	"testing"
)

// TestRescue: a panic of one job is logged by its type and place, not by its text.
func TestRescue(t *testing.T) {
	var log strings.Builder
	v := &Vault{log: slog.New(slog.NewTextHandler(&log, nil))}
	func() {
		defer v.rescue(t.Context(), "test")
		panic("panic canary")
	}()
	if got := log.String(); strings.Contains(got, "canary") || !strings.Contains(got, "type=string") || !strings.Contains(got, "proxy/vault.TestRescue") {
		t.Errorf("got %s", got)
	}
}
