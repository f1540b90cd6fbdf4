// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"cmp"
	"io"
	"io/fs"
	"time"
)

// system is what the spool needs of the operating system. Tests have one whose
// calls fail and whose page cache gets lost.
type system interface {
	// Now is the time by the clock, and by one that nobody sets.
	Now() (wall time.Time, steady time.Duration)
	BootID() bootID
	// Free is how many bytes are left for this process where path is.
	Free(path string) (uint64, error)

	// Lock makes the file if need be and keeps other processes from locking it
	// until it is closed. ErrLocked: one has.
	Lock(path string) (io.Closer, error)
	// Mkdir makes a directory for this user alone; one may be there already.
	Mkdir(path string) error
	ReadDir(path string) ([]string, error)
	// Open opens for reading; Create makes a file anew for this user alone. Neither
	// follows a symbolic link.
	Open(path string) (file, error)
	Create(path string) (file, error)
	Stat(path string) (fileInfo, error)
	Rename(from, to string) error
	Remove(path string) error
	// SyncDir makes durable what was made, renamed and removed in a directory.
	SyncDir(path string) error
}

// file is an open one. What is written goes to its end, wherever that is: so it
// shows if somebody cuts it. Sync makes what was written durable.
type file interface {
	io.ReaderAt
	io.Writer
	io.Closer
	Sync() error
	Stat() (fileInfo, error)
}

// fileInfo tells files apart: two at different times may have one name.
type fileInfo struct {
	device, inode uint64
	size          int64
	mode          fs.FileMode
}

func (i fileInfo) same(other fileInfo) bool {
	return i.device == other.device && i.inode == other.inode
}

// tmpSuffix marks files that are not yet what their name says.
const tmpSuffix = ".tmp"

// createFile makes a file with this content durable, under the name path; the
// name itself is not durable yet. What is left of it after an error is removed.
func createFile(sys system, path string, content []byte) (f file, err error) {
	if f, err = sys.Create(path); err != nil {
		return nil, failed("create", path, err)
	}
	if err = writeAll(f, content); err != nil {
		err = failed("write", path, err)
	} else if err = f.Sync(); err != nil {
		err = failed("sync", path, err)
	}
	if err != nil {
		_ = f.Close()        // nothing in it is needed
		_ = sys.Remove(path) // best effort: the next start does it as well
		return nil, err
	}
	return f, nil
}

// writeAll writes all of b, or says that it did not.
func writeAll(f file, b []byte) error {
	if n, err := f.Write(b); err != nil || n < len(b) {
		return cmp.Or(err, io.ErrShortWrite)
	}
	return nil
}

// moveFile gives a durable file its name, durably. After an error it may have
// either name after a crash.
func moveFile(sys system, from, to, dir string) error {
	if err := sys.Rename(from, to); err != nil {
		return failed("rename", from, err)
	}
	if err := sys.SyncDir(dir); err != nil {
		return failed("sync", dir, err)
	}
	return nil
}

// replaceFile makes a file that has the old content or the new one at any time.
func replaceFile(sys system, dir, path string, content []byte) error {
	f, err := createFile(sys, path+tmpSuffix, content)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return failed("close", path, err)
	}
	return moveFile(sys, path+tmpSuffix, path, dir)
}

// readFile reads a small file that only its owner may have written, and if it is
// secret read.
func readFile(sys system, path string, most int64, secret bool) ([]byte, error) {
	f, err := sys.Open(path)
	if err != nil {
		return nil, failed("open", path, err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, failed("stat", path, err)
	}
	forbidden := fs.FileMode(0o022)
	if secret {
		forbidden = 0o077
	}
	switch {
	case !info.mode.IsRegular() || info.mode.Perm()&forbidden != 0:
		return nil, damaged(path, -1, "its mode is %v: it must be a file of its owner's alone (chmod 600)", info.mode)
	case info.size > most:
		return nil, damaged(path, -1, "%d bytes are too many", info.size)
	}
	b := make([]byte, info.size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, failed("read", path, err)
	}
	return b, nil
}
