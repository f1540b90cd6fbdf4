// SPDX-License-Identifier: GPL-3.0-or-later

//go:build soak

package soak

import "time"

// The long form: SOAK, SOAK_SESSIONS and SOAK_PACE change it.
var form = spec{
	sessions: 500, duration: 30 * time.Minute, pace: time.Second, ramp: time.Minute, silent: 10_000, report: time.Minute,
	measured: true,
}
