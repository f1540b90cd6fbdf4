// SPDX-License-Identifier: GPL-3.0-or-later

//go:build unix && !linux

package audit

import "golang.org/x/sys/unix"

// datasync makes a file durable.
func datasync(fd int) error { return unix.Fsync(fd) }

// dirsync makes durable which names a directory has.
func dirsync(fd int) error { return unix.Fsync(fd) }
