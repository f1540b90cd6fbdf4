// SPDX-License-Identifier: GPL-3.0-or-later

//go:build goexperiment.runtimesecret

package erase

import (
	"runtime"
	"runtime/secret"
)

// Do calls f and then erases the stack and the registers that f used; what f
// allocated is erased when the garbage collector finds it unreachable. A panic
// in f passes through. Calls may nest.
func Do(f func()) { secret.Do(f) }

// Enabled reports whether Do erases in this build, on this platform.
func Enabled() bool {
	return runtime.GOOS == "linux" && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64")
}
