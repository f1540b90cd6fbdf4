// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e && !soak

package soak

import "time"

// The short form: so that the long one works when it is wanted. It measures
// nothing.
var form = spec{
	sessions: 40, duration: 20 * time.Second, pace: 200 * time.Millisecond, ramp: 4 * time.Second, silent: 300, report: 5 * time.Second,
}
