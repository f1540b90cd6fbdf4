// SPDX-License-Identifier: GPL-3.0-or-later

package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// aloneStage is the variable that tells a process of Alone which one it is.
const aloneStage = "HYPERION_VAULT_TEST_ALONE"

const (
	stageInit = "init" // first process of the new namespaces
	stageTest = "test" // the one that runs tests
)

// Alone runs the program again in a network, a set of mounts and processes of its
// own, where a test may drop packets and mount file systems: nobody else notices,
// and all of it goes with the last process, however that ends. It needs root, or
// a kernel that lets users have namespaces. A TestMain calls it first:
//
//	if status, done := cluster.Alone(); done {
//		os.Exit(status)
//	}
//
// Not done: this is the process to run the tests in.
func Alone() (status int, done bool) {
	var err error
	switch os.Getenv(aloneStage) { //nolint:forbidigo // our own word to ourselves
	case stageTest:
		return 0, false
	case stageInit:
		status, err = aloneInit()
	default:
		if listing() {
			return 0, false
		}
		if status, err = aloneOuter(); errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS) {
			crowded = err
			return 0, false
		}
	}
	if err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "namespaces: %v\n", err)
		return 1, true
	}
	return status, true
}

// crowded is why this host gives us no namespaces of our own.
var crowded error

// NeedAlone skips a test that breaks what others use, where Alone could not be.
func NeedAlone(tb testing.TB) {
	tb.Helper()
	if crowded != nil {
		tb.Skipf("NOT TESTED: this host gives no namespaces: %v", crowded)
	}
}

// again is this program with the same arguments, as another stage.
func again(stage string) (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &exec.Cmd{
		Path: path, Args: os.Args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Env:         append(os.Environ(), aloneStage+"="+stage), //nolint:forbidigo // it is us
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}, nil
}

func aloneOuter() (int, error) {
	cmd, err := again(stageInit)
	if err != nil {
		return 0, err
	}
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN}
	}
	runtime.LockOSThread() // the child dies with the thread that made it
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// aloneInit prepares the namespaces and, as their first process, buries what its
// owners have left: a server whose manager was killed, say. A process that only
// looks alive would never be replaced.
func aloneInit() (int, error) {
	runtime.LockOSThread()
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return 0, fmt.Errorf("mounts of our own: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return 0, fmt.Errorf("/proc: %w", err)
	}
	if err := loopbackUp(); err != nil {
		return 0, fmt.Errorf("loopback: %w", err)
	}
	cmd, err := again(stageTest)
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case pid == cmd.Process.Pid && status.Exited():
			return status.ExitStatus(), nil
		case pid == cmd.Process.Pid && status.Signaled():
			return 0, errors.New("the tests ended by signal " + strconv.Itoa(int(status.Signal())))
		}
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // nothing was sent
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}
