// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// now is the time since the system started.
func now() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // every Linux has it
	return time.Duration(t.Nano())
}

// sleepUntil waits for a point in time. Go's own timers wait for whole milliseconds
// from when they are set, so that what came before shows in when they end.
func sleepUntil(at time.Duration) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil { // too many files are open
		<-time.After(at - now())
		return
	}
	timer := os.NewFile(uintptr(fd), "timer")
	defer func() { _ = timer.Close() }() // it has rung
	if unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(at))}, nil) == nil {
		var rung [8]byte
		_, _ = timer.Read(rung[:]) // how often is known
	}
}
