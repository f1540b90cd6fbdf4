// SPDX-License-Identifier: GPL-3.0-or-later

package devcluster

import (
	"os"
	"path/filepath"
	"testing"
)

// TestParents: an account of the server's can pass those that are made, and no other is
// changed.
func TestParents(t *testing.T) {
	there := filepath.Join(t.TempDir(), "there")
	if err := os.Mkdir(there, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := checkEmpty(filepath.Join(there, "a", "b", "data")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{"": 0o700, "a": 0o711, "a/b": 0o711, "a/b/data": 0o700} {
		info, err := os.Stat(filepath.Join(there, path))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: got %v, %v, want %v", path, info, err, want)
		}
	}
}
