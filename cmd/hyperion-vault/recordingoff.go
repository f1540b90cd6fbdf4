// SPDX-License-Identifier: GPL-3.0-or-later

//go:build noaudit

package main

// recording is false in the build against which `make bench` measures what the audit
// costs. No other target makes it.
const recording = false
