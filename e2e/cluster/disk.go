// SPDX-License-Identifier: GPL-3.0-or-later

package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A Disk is a small file system that holds a server's data.
type Disk struct {
	path, filler string
	mounted      bool
	// log is where the write-ahead log is, if it is not on the small one.
	log string
}

// SmallDisk moves the node's data directory to a file system of its own with the
// given room beside the data, and restarts its server on it. withLog: the
// write-ahead log as well, without which a server cannot live; else it stays where
// there is room. It needs Alone.
func (n *Node) SmallDisk(tb testing.TB, room int64, withLog bool) *Disk {
	tb.Helper()
	d := &Disk{path: n.DataDir, filler: filepath.Join(n.DataDir, "filler")}
	if !withLog {
		d.log = n.DataDir + ".log"
	}
	if err := n.MoveData(tb.Context(), func(string) error { return d.mount(tb.Context(), room) }); err != nil {
		tb.Fatalf("%s: a small disk: %v", n.Name, err)
	}
	tb.Cleanup(func() {
		// Its files are in use until the server ends, and gone then.
		if err := syscall.Unmount(d.path, unix.MNT_DETACH); err != nil && d.mounted {
			tb.Errorf("unmount %s: %v", d.path, err)
		}
	})
	return d
}

// SmallAuditDisk moves the node's own directory to a file system of its own of a size,
// with nothing on it, and restarts the node. It needs Alone.
func (n *Node) SmallAuditDisk(tb testing.TB, size int64) *Disk {
	tb.Helper()
	d := &Disk{path: n.AuditDir, filler: filepath.Join(n.AuditDir, "filler")}
	if err := n.StopNode(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", d.path, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
		tb.Fatalf("mount: %v", err)
	}
	tb.Cleanup(func() {
		// Its files are in use until the node ends, and gone then.
		if err := syscall.Unmount(d.path, unix.MNT_DETACH); err != nil {
			tb.Errorf("unmount %s: %v", d.path, err)
		}
	})
	if err := n.StartNode(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return d
}

// LargeDisk takes SmallDisk back. The server may be down.
func (n *Node) LargeDisk(tb testing.TB, d *Disk) {
	tb.Helper()
	if err := n.MoveData(tb.Context(), func(string) error { return d.unmount(tb.Context()) }); err != nil {
		tb.Fatalf("%s: back to the large disk: %v", n.Name, err)
	}
}

func (d *Disk) mount(ctx context.Context, room int64) error {
	if d.log != "" {
		inside := filepath.Join(d.path, "pg_wal")
		if err := os.Rename(inside, d.log); err != nil {
			return err
		}
		if err := os.Symlink(d.log, inside); err != nil {
			return err
		}
	}
	var size int64
	err := filepath.Walk(d.path, func(_ string, info os.FileInfo, err error) error {
		if err == nil {
			size += info.Size() + 4<<10 // a file fills whole pages
		}
		return err
	})
	if err != nil {
		return err
	}
	aside := d.path + ".aside"
	if err := os.Rename(d.path, aside); err != nil {
		return err
	}
	if err := os.Mkdir(d.path, 0o700); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", d.path, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size+room)); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	d.mounted = true
	if err := copyTree(ctx, aside, d.path); err != nil {
		return err
	}
	return os.RemoveAll(aside)
}

func (d *Disk) unmount(ctx context.Context) error {
	aside := d.path + ".aside"
	if err := os.Mkdir(aside, 0o700); err != nil {
		return err
	}
	if err := copyTree(ctx, d.path, aside); err != nil {
		return err
	}
	if err := syscall.Unmount(d.path, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	d.mounted = false
	if d.log != "" {
		inside := filepath.Join(aside, "pg_wal")
		if err := os.Remove(inside); err != nil {
			return err
		}
		if err := os.Rename(d.log, inside); err != nil {
			return err
		}
	}
	if err := os.Remove(d.path); err != nil {
		return err
	}
	return os.Rename(aside, d.path)
}

func copyTree(ctx context.Context, from, to string) error {
	out, err := exec.CommandContext(ctx, "cp", "-a", from+"/.", to).CombinedOutput() //nolint:gosec // our own paths
	if err != nil {
		return fmt.Errorf("copy: %w: %s", err, out)
	}
	return nil
}

// Fill takes all room that is left.
func (d *Disk) Fill(tb testing.TB) {
	tb.Helper()
	file, err := os.OpenFile(d.filler, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = file.Close() }() // its content is of no use
	block := make([]byte, 64<<10)
	for len(block) > 0 {
		n, err := file.Write(block)
		if n < len(block) && err != nil {
			block = block[:len(block)/2] // until not even a byte fits
		}
	}
}

// Leave takes all room but so much.
func (d *Disk) Leave(tb testing.TB, room uint64) {
	tb.Helper()
	file, err := os.OpenFile(d.filler, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = file.Close() }() // its content is of no use
	for {
		var st unix.Statfs_t
		if err := unix.Statfs(d.path, &st); err != nil {
			tb.Fatal(err)
		}
		if st.Bavail*uint64(st.Bsize) <= room { //nolint:gosec // not negative
			return
		}
		if _, err := file.Write(make([]byte, 64<<10)); err != nil {
			tb.Fatal(err)
		}
	}
}

// Free gives the room back.
func (d *Disk) Free(tb testing.TB) {
	tb.Helper()
	if err := os.Remove(d.filler); err != nil {
		tb.Fatal(err)
	}
}
