// SPDX-License-Identifier: GPL-3.0-or-later

//go:build unix

package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// TestDatasync: each sync is told what became of it, whoever else has asked for one.
func TestDatasync(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			path := filepath.Join(dir, fmt.Sprint(i))
			f, err := (osSystem{}).Create(path)
			if err != nil {
				t.Error(err)
				return
			}
			for range 20 {
				if err := writeAll(f, []byte("record")); err != nil {
					t.Error(err)
				}
				if err := f.Sync(); err != nil {
					t.Errorf("a file: %v", err)
				}
				if err := (osSystem{}).SyncDir(dir); err != nil {
					t.Errorf("a directory: %v", err)
				}
				for what, try := range map[string]func(int) error{"datasync": datasync, "dirsync": dirsync} {
					if err := try(1 << 20); !errors.Is(err, syscall.EBADF) {
						t.Errorf("%s of what is not open: got %v, want %v", what, err, syscall.EBADF)
					}
				}
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := control(w, datasync); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("a pipe: got %v, want %v", err, syscall.EINVAL)
	}
	if err := errors.Join(r.Close(), w.Close()); err != nil {
		t.Error(err)
	}
}
