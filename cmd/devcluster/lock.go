// SPDX-License-Identifier: GPL-3.0-or-later

package devcluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

const (
	tempPrefix = "hyperion-vault-"
	lockFile   = "lock"
)

// lock marks a directory as in use for as long as this process lives: the
// kernel drops the lock of a process that is killed.
func lock(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockFile)
	if f, err := takeLock(path); err == nil || !errors.Is(err, os.ErrNotExist) {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s is in use by another process", dir)
		}
		return f, err
	}
	// It gets its name when it is locked, so that nobody sees it unlocked.
	f, err := os.CreateTemp(dir, lockFile+".*")
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// sweep removes the temporary directories of processes that were killed.
func sweep() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), tempPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() {
			continue
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != os.Geteuid() {
			continue // somebody else's
		}
		f, err := takeLock(filepath.Join(dir, lockFile))
		if err != nil {
			continue // in use, or not made by us
		}
		_ = os.RemoveAll(dir) // next time, if a process of its is still going down
		_ = f.Close()         // only read from
	}
}
