// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAuditDirFault: what root has left there says whose it is and what to do.
func TestAuditDirFault(t *testing.T) {
	dir := t.TempDir()
	denied := func(path string) string {
		return auditDirFault(&fs.PathError{Op: "open", Path: path, Err: unix.EACCES}).Error()
	}
	if got, want := denied(filepath.Join(dir, "mine")), "VAULT_AUDIT_DIR: open "+dir+"/mine: permission denied"; got != want {
		t.Errorf("one's own: got %q, want %q", got, want)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	path := filepath.Join(dir, "vault-id")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 65534, -1); err != nil {
		t.Fatal(err)
	}
	if got := denied(path); !strings.Contains(got, path+" belongs to nobody, and this is root: run it as that user, or chown it") {
		t.Errorf("another's: got %q", got)
	}
}

func TestCanMake(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{dir: true, dir + "/a/b": true, dir + "/file/b": false} {
		if err := canMake(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}
