// SPDX-License-Identifier: GPL-3.0-or-later

//go:build unix

package audit

import (
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// osSystem is the real one.
type osSystem struct{ began time.Time }

func (s osSystem) Now() (time.Time, time.Duration) {
	now := time.Now()
	return now.Round(0), now.Sub(s.began)
}

// BootID is Linux's; elsewhere it is unknown.
func (osSystem) BootID() (id bootID) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return bootID{}
	}
	digits := strings.ReplaceAll(strings.TrimSpace(string(b)), "-", "")
	if n, err := hex.Decode(id[:], []byte(digits[:min(len(digits), 2*len(id))])); err != nil || n != len(id) {
		return bootID{}
	}
	return id
}

func (osSystem) Free(path string) (uint64, error) {
	var st unix.Statfs_t
	if err := ignoringEINTR(func() error { return unix.Statfs(path, &st) }); err != nil {
		return 0, err
	}
	return uint64(st.Bavail) * uint64(st.Bsize), nil //nolint:gosec,unconvert // not negative; their types differ between systems
}

func (osSystem) Lock(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = control(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, err
	}
	return f, nil
}

func (osSystem) Mkdir(path string) error { return os.MkdirAll(path, 0o700) }

func (osSystem) ReadDir(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

func (osSystem) Open(path string) (file, error) {
	return asFile(os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0))
}

func (osSystem) Create(path string) (file, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return asFile(os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600))
}

func asFile(f *os.File, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osSystem) Stat(path string) (fileInfo, error) {
	info, err := os.Lstat(path)
	return asInfo(info, err)
}

func (osSystem) Rename(from, to string) error { return os.Rename(from, to) }
func (osSystem) Remove(path string) error     { return os.Remove(path) }

func (osSystem) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = control(d, dirsync)
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// osFile is a file of the real system.
type osFile struct{ *os.File }

func (f osFile) Sync() error { return control(f.File, datasync) }

func (f osFile) Stat() (fileInfo, error) { return asInfo(f.File.Stat()) }

func asInfo(info fs.FileInfo, err error) (fileInfo, error) {
	if err != nil {
		return fileInfo{}, err
	}
	i := fileInfo{size: info.Size(), mode: info.Mode()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		i.device, i.inode = uint64(st.Dev), st.Ino //nolint:unconvert // only compared; their types differ between systems
	}
	return i, nil
}

// control calls f with the descriptor, which stays open meanwhile.
func control(file *os.File, f func(fd int) error) error {
	c, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if err := c.Control(func(fd uintptr) {
		result = ignoringEINTR(func() error { return f(int(fd)) })
	}); err != nil {
		return err
	}
	return result
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
