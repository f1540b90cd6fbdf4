// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cpuTime is what all threads of a process have run so far: schedstat counts
// nanoseconds, where /proc/PID/stat counts ticks.
func cpuTime(pid int) (time.Duration, error) {
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	if len(paths) == 0 {
		return 0, fmt.Errorf("process %d is gone", pid)
	}
	var sum time.Duration
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // a thread that ended
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// tickTime is what /proc/PID/stat counts in, on every Linux.
const tickTime = 10 * time.Millisecond

// serverTime is what a server has run so far: its processes, and those that it has
// had. It looks again if one of them has come or ended meanwhile, which might be in
// neither.
func serverTime(postmaster int) (sum time.Duration, err error) {
	children := fmt.Sprintf("/proc/%d/task/%d/children", postmaster, postmaster)
	for range 100 {
		before, err := os.ReadFile(children)
		if err != nil {
			return 0, err
		}
		if sum, err = endedTime(postmaster); err != nil {
			return 0, err
		}
		for _, child := range strings.Fields(string(before)) {
			pid, err := strconv.Atoi(child)
			if err != nil {
				return 0, err
			}
			if ran, err := cpuTime(pid); err == nil { // else it has ended
				sum += ran
			}
		}
		if after, err := os.ReadFile(children); err != nil || bytes.Equal(before, after) {
			return sum, err
		}
	}
	return 0, fmt.Errorf("the processes of %d come and go", postmaster)
}

// endedTime is what the children that a process has waited for have run.
func endedTime(parent int) (sum time.Duration, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", parent))
	if err != nil {
		return 0, err
	}
	field := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const cutime, cstime = 16 - 3, 17 - 3 // proc(5) counts from 1, and two are cut off
	if len(field) <= cstime {
		return 0, fmt.Errorf("process %d is gone", parent)
	}
	for _, ticks := range []string{field[cutime], field[cstime]} {
		n, err := strconv.ParseInt(ticks, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * tickTime
	}
	return sum, nil
}

// resident is a process's resident memory in bytes.
func resident(pid int) (int64, error) {
	return kilobytes(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")
}

// available is the memory that the machine has left, in bytes.
func available() (int64, error) { return kilobytes("/proc/meminfo", "MemAvailable:") }

// kilobytes reads a field like "VmRSS:   123 kB".
func kilobytes(path, field string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, field)
}
