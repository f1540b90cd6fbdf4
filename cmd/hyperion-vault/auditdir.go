// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// auditDirFault is an error about the node's directory. Of what belongs to another user
// it says whose it is: somebody has started the node as root, once.
func auditDirFault(err error) error {
	var at *fs.PathError
	if errors.Is(err, fs.ErrPermission) && errors.As(err, &at) {
		path, owner := ownerOf(at.Path)
		if self := os.Geteuid(); owner != self {
			err = fmt.Errorf("%w (%s belongs to %s, and this is %s: run it as that user, or chown it)", err, path, userName(owner), userName(self))
		}
	}
	return fmt.Errorf("VAULT_AUDIT_DIR: %w", err)
}

// ownerOf is whose a file is, or the first of its directories that can be seen.
func ownerOf(path string) (seen string, uid int) {
	for {
		info, err := os.Stat(path)
		if err == nil {
			stat, ok := info.Sys().(*syscall.Stat_t)
			if ok {
				return path, int(stat.Uid)
			}
		}
		if parent := filepath.Dir(path); parent != path {
			path = parent
			continue
		}
		return path, 0
	}
}

// userName is a number where the user has no name.
func userName(uid int) string {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "user " + id
}

// canMake says why a directory could not be made, or nothing in it if it is there.
func canMake(dir string) error {
	err := unix.Access(dir, unix.W_OK|unix.X_OK)
	for parent := filepath.Dir(dir); errors.Is(err, unix.ENOENT) && parent != dir; parent = filepath.Dir(dir) {
		dir = parent
		err = unix.Access(dir, unix.W_OK|unix.X_OK)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return nil
}
