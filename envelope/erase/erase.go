// SPDX-License-Identifier: GPL-3.0-or-later

// Package erase keeps keys and plaintext from outliving their use. It is the
// one importer of the experimental runtime/secret: built with
// GOEXPERIMENT=runtimesecret, Do erases what a function leaves on its stack, in
// registers and on the heap; built without, Do is a plain call, so that editors
// and a bare "go test" work.
//
// Do covers the goroutine that calls it, not goroutines started inside.
package erase

import "runtime"

// Zero overwrites b. It is never optimised away, so it also serves for memory
// that nobody reads again.
//
//go:noinline
func Zero(b []byte) {
	clear(b)
	runtime.KeepAlive(b)
}
