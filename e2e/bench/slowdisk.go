// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// slowWrites is how many writes a second a slow disk does: what clouds give small volumes.
// A sync behind an append is about three.
const slowWrites = 3000

// A slowDisk is a control group (version 1) whose processes get so many writes a second
// of the disk that a directory is on. Version 2 would not do: there a write counts for the
// group that first wrote to the file. Only root may make one.
type slowDisk struct {
	group string // a directory
	rest  string // the group that everybody else is in
}

func newSlowDisk(dir string) (*slowDisk, error) {
	device, err := wholeDisk(dir)
	if err != nil {
		return nil, err
	}
	d := &slowDisk{rest: "/sys/fs/cgroup/blkio"}
	d.group = filepath.Join(d.rest, "hyperion-vault-bench-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(d.group, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(d.group, "blkio.throttle.write_iops_device"), fmt.Appendf(nil, "%s %d", device, slowWrites), 0); err != nil {
		return nil, errors.Join(err, d.end())
	}
	return d, nil
}

// wholeDisk is the number of the device that a directory is on, not of its partition.
func wholeDisk(dir string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return "", err
	}
	at := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	if _, err := os.Stat(filepath.Join(at, "partition")); err == nil {
		if at, err = filepath.EvalSymlinks(at); err != nil {
			return "", err
		}
		at = filepath.Dir(at)
	}
	text, err := os.ReadFile(filepath.Join(at, "dev"))
	return strings.TrimSpace(string(text)), err
}

// use runs something while a process has no more of the disk than this.
func (d *slowDisk) use(pid int, run func() error) error {
	if err := moveTo(d.group, pid); err != nil {
		return err
	}
	err := run()
	return errors.Join(err, moveTo(d.rest, pid))
}

func moveTo(group string, pid int) error {
	return os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
}

func (d *slowDisk) end() error { return os.Remove(d.group) }
