// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// TestRescue: a panic of one job is logged by its type and place, not by its text.
func TestRescue(t *testing.T) {
	var log strings.Builder
	v := &Vault{log: slog.New(slog.NewTextHandler(&log, nil))}
	failed := false
	func() {
		defer v.rescue(t.Context(), "test", func() { failed = true })
		panic("panic canary")
	}()
	if !failed {
		t.Error("the job was not told to have failed")
	}
	if got := log.String(); strings.Contains(got, "canary") || !strings.Contains(got, "type=string") || !strings.Contains(got, "proxy/vault.TestRescue") {
		t.Errorf("got %s", got)
	}
}

// TestOpeningPanics: a panic beside others ends the opening, not the process.
func TestOpeningPanics(t *testing.T) {
	v, _, _ := newTestVault(t, nil)
	o := newOpening(4)
	defer o.release()
	texts := make([][]byte, 4)
	for i := range texts {
		texts[i] = sealText(t, v, "a", int32(i+1), "x")
	}
	s := v.sealer.Load()
	if _, err := v.parse(s, o, texts); err != nil {
		t.Fatal(err)
	}
	o.plains = nil // has no room for what is opened
	if _, err := v.openRest(t.Context(), s, o, 0, make([]byte, 4)); KindOf(err) != KindInternal || !errors.Is(err, errPanic) {
		t.Errorf("got %v", err)
	}
}
