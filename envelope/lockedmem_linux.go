// SPDX-License-Identifier: GPL-3.0-or-later

package envelope

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// mapLocked maps n bytes outside Go's heap that are never swapped and left out
// of core dumps. n need not be a whole number of pages.
func mapLocked(n int) ([]byte, error) {
	mem, err := mapUnlocked(n)
	if err != nil {
		return nil, err
	}
	if err := unix.Mlock(mem); err != nil {
		_ = unix.Munmap(mem)
		return nil, fmt.Errorf("mlock of %d bytes (see RLIMIT_MEMLOCK): %w", n, err)
	}
	return mem, nil
}

// mapUnlocked is mapLocked for where memory cannot be locked.
func mapUnlocked(n int) ([]byte, error) {
	mem, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("mmap of %d bytes: %w", n, err)
	}
	if err := unix.Madvise(mem, unix.MADV_DONTDUMP); err != nil {
		_ = unix.Munmap(mem)
		return nil, fmt.Errorf("madvise: %w", err)
	}
	return mem, nil
}

// unmap returns memory of the two above; unmapping also unlocks it.
func unmap(mem []byte) error { return unix.Munmap(mem) }

// LockProcess keeps this process's memory from other processes and from disk:
// no core dump (RLIMIT_CORE 0) and not dumpable (PR_SET_DUMPABLE 0), which also
// stops ptrace by the same user. The limit is inherited by children.
func LockProcess() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("set RLIMIT_CORE to 0: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("set PR_SET_DUMPABLE to 0: %w", err)
	}
	return nil
}
