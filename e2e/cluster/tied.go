// SPDX-License-Identifier: GPL-3.0-or-later

package cluster

import (
	"os/exec"
	"runtime"
	"syscall"
)

// startTied starts a program that does not outlive this one, however this ends: tests
// that run out of time clean nothing up. The channel is closed when the program has ended.
func startTied(cmd *exec.Cmd) (ended <-chan struct{}, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, done := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // the kernel ends the child with the thread that started it
		defer close(done)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it was told to end, or killed
		}
	}()
	return done, <-started
}
