// SPDX-License-Identifier: GPL-3.0-or-later

package envelope

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

func TestArenaLocks(t *testing.T) {
	a, err := newArena(100, false, mapLocked)
	if err != nil {
		t.Fatal(err)
	}
	if !a.locked || a.slots != 100 {
		t.Errorf("got %d slots, locked %v; want 100, true", a.slots, a.locked)
	}
	a.slot(99)[63] = 1
	if a.mem[100*keysSize-1] != 1 || a.slot(98)[63] != 0 {
		t.Error("slot 99 is not the last")
	}
	if err := a.close(); err != nil {
		t.Error(err)
	}
}

// TestArenaFits: where only little memory can be locked, the arena gets smaller.
func TestArenaFits(t *testing.T) {
	limit := func(n int) func(int) ([]byte, error) {
		return func(size int) ([]byte, error) {
			if size > n {
				return nil, unix.ENOMEM
			}
			return make([]byte, size), nil
		}
	}
	for _, c := range []struct{ want, limit, slots int }{
		{1000, 64000, 1000}, {1000, 63999, 500}, {16384, 64 << 10, 1024}, {16384, 4096, 64}, {100, 4096, 64}, {1, 4096, 64},
	} {
		a, err := newArena(c.want, false, limit(c.limit))
		if err != nil || a.slots != c.slots || !a.locked {
			t.Errorf("want %d slots of %d bytes: got %+v, %v", c.want, c.limit, a, err)
		}
	}
	if _, err := newArena(1000, false, limit(4095)); !errors.Is(err, ErrUnlocked) || !errors.Is(err, unix.ENOMEM) {
		t.Errorf("got %v, want ErrUnlocked", err)
	}
	a, err := newArena(1000, true, limit(4095))
	if err != nil || a.locked || a.slots != 1000 {
		t.Fatalf("allowed to be unlocked: got %+v, %v", a, err)
	}
	a.slot(7)[0] = 1
	if err := a.close(); err != nil {
		t.Error(err)
	}
}

// TestArenaCloseZeroes uses memory that can still be looked at afterwards.
func TestArenaCloseZeroes(t *testing.T) {
	mem := bytes.Repeat([]byte{7}, 4096)
	a := &arena{mem: mem, slots: 64}
	if err := a.close(); err == nil {
		t.Error("memory that was never mapped was unmapped")
	}
	if !bytes.Equal(mem, make([]byte, 4096)) {
		t.Error("not zeroed")
	}
}

// TestArenaMapping asks the kernel what it knows of the memory.
func TestArenaMapping(t *testing.T) {
	a, err := newArena(64, false, mapLocked)
	if err != nil {
		t.Fatal(err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	for _, flags := range bytes.Split(smaps, []byte("VmFlags:"))[1:] {
		line, _, _ := bytes.Cut(flags, []byte("\n"))
		if bytes.Contains(line, []byte(" lo")) && bytes.Contains(line, []byte(" dd")) {
			if err := a.close(); err != nil {
				t.Error(err)
			}
			return
		}
	}
	t.Error("no mapping is both locked (lo) and left out of dumps (dd)")
}

var lockProcess = flag.Bool("lock-process", false, "set by TestLockProcess for the process that it starts")

// TestLockProcess runs this test again as a process of its own: what it does to
// a process cannot be undone.
func TestLockProcess(t *testing.T) {
	if !*lockProcess {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLockProcess$", "-lock-process")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if err := LockProcess(); err != nil {
		t.Fatal(err)
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil || core.Cur != 0 || core.Max != 0 {
		t.Errorf("got a core limit of %+v, %v; want 0", core, err)
	}
	if got, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || got != 0 {
		t.Errorf("got dumpable %d, %v; want 0", got, err)
	}
}
