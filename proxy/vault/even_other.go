// SPDX-License-Identifier: GPL-3.0-or-later

//go:build !linux

package vault

import "time"

var started = time.Now()

func now() time.Duration { return time.Since(started) }

func sleepUntil(at time.Duration) { <-time.After(at - now()) }
