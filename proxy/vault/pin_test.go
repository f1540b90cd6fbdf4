// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperiondb/hyperion-vault/envelope"
)

func mustPin(t *testing.T, dir, configured string) *Pin {
	t.Helper()
	p, err := PinVaultID(dir, configured)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPin(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	id, err := envelope.ParseUUID(testVaultID)
	if err != nil {
		t.Fatal(err)
	}
	first := mustPin(t, dir, "")
	if _, known := first.ID(); known {
		t.Fatal("an id out of nowhere")
	}
	if err := first.Check(envelope.UUID{}); err == nil {
		t.Error("the nil uuid was pinned")
	}
	if err := first.Check(id); err != nil {
		t.Fatal(err)
	}
	if err := first.Check(envelope.NewUUID()); !errors.Is(err, ErrForeignVault) {
		t.Errorf("another id: %v, want ErrForeignVault", err)
	}
	info, err := os.Stat(filepath.Join(dir, pinFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("pin file: %v, %v; want mode 0600", info, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left %v, %v in the directory", entries, err)
	}
	// It is remembered, and VAULT_ID must agree with it.
	for _, configured := range []string{"", testVaultID, "11111111-2222-4333-8444-555555555555"} {
		if got, known := mustPin(t, dir, configured).ID(); !known || got != id {
			t.Errorf("read back %v, %v", got, known)
		}
	}
	if _, err := PinVaultID(dir, envelope.NewUUID().String()); !errors.Is(err, ErrForeignVault) {
		t.Errorf("another VAULT_ID: %v, want ErrForeignVault", err)
	}
	if _, err := PinVaultID(dir, "not-a-uuid"); err == nil {
		t.Error("a VAULT_ID that is no uuid was accepted")
	}
}

// TestPeek: it judges as the pin does, and leaves nothing.
func TestPeek(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "audit")
	id, err := envelope.ParseUUID(testVaultID)
	if err != nil {
		t.Fatal(err)
	}
	for _, configured := range []string{"", testVaultID} {
		p, err := PeekVaultID(dir, configured)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Check(id); err != nil {
			t.Fatal(err)
		}
		if err := p.Check(envelope.NewUUID()); !errors.Is(err, ErrForeignVault) {
			t.Errorf("another id: %v, want ErrForeignVault", err)
		}
	}
	if entries, err := os.ReadDir(parent); err != nil || len(entries) != 0 {
		t.Errorf("left %v, %v", entries, err)
	}
	mustPin(t, dir, testVaultID)
	if _, err := PeekVaultID(dir, envelope.NewUUID().String()); !errors.Is(err, ErrForeignVault) {
		t.Errorf("another VAULT_ID than the one that is pinned: %v, want ErrForeignVault", err)
	}
}

func TestPinFileMustBeGood(t *testing.T) {
	for name, tc := range map[string]struct {
		content string
		mode    os.FileMode
		good    bool
	}{
		"with line break":     {testVaultID + "\n", 0o600, true},
		"without":             {testVaultID, 0o400, true},
		"readable by others":  {testVaultID, 0o644, true},
		"writable by others":  {testVaultID, 0o666, false},
		"empty":               {"", 0o600, false},
		"longer than an id":   {testVaultID + "\n" + testVaultID, 0o600, false},
		"something different": {"hello", 0o600, false},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, pinFile)
		if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tc.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := PinVaultID(dir, ""); (err == nil) != tc.good {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
