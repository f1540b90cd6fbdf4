// SPDX-License-Identifier: GPL-3.0-or-later

//go:build profile

package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"syscall"
)

// samplesPerSecond is more than Go's own 100: of a hundred samples four are ours.
const samplesPerSecond = 900

// The build of `make profile`, and no other, writes its CPU profile between one SIGUSR1 and the next.
func init() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	go func() {
		<-asked
		path := fmt.Sprintf("/tmp/hyperion-vault.%d.pprof", os.Getpid())
		f, err := os.OpenFile(path+".part", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err == nil {
			runtime.SetCPUProfileRate(samplesPerSecond) // StartCPUProfile complains that it is set, and keeps it
			err = pprof.StartCPUProfile(f)
		}
		if err == nil {
			<-asked
			pprof.StopCPUProfile()
			err = f.Close()
		}
		if err == nil {
			err = os.Rename(path+".part", path)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "profile:", err)
		}
	}()
}
