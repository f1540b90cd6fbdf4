// SPDX-License-Identifier: GPL-3.0-or-later

//go:build !noaudit

package main

// recording says whether this build keeps an audit at all.
const recording = true
