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

// TestPlantedLinks: the server's account, which owns the directory, has us write through no
// link of its making.
func TestPlantedLinks(t *testing.T) {
	dir := t.TempDir()
	victim, conf := filepath.Join(dir, "victim"), filepath.Join(dir, "conf")
	if err := os.WriteFile(victim, []byte("root's"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{conf, conf + ".new"} {
		if err := os.Symlink(victim, link); err != nil {
			t.Fatal(err)
		}
	}
	if err := appendFile(conf, "ours"); err == nil {
		t.Error("a link was appended to")
	}
	if err := writeFile(conf, []byte("ours"), account{}); err != nil {
		t.Error(err)
	}
	if err := appendFile(conf, ", more"); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]string{victim: "root's", conf: "ours, more"} {
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", path, got, err, want)
		}
	}
	if info, err := os.Lstat(conf); err != nil || info.Mode() != 0o600 {
		t.Errorf("got %v, %v, want a file of mode 0600", info, err)
	}
	if left, err := filepath.Glob(conf + ".*"); err != nil || len(left) != 1 {
		t.Errorf("beside the planted link there is something: %v, %v", left, err)
	}
}
