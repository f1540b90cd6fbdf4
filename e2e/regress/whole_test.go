// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e && regress

package regress

// whole: with the build tag regress, all of it runs, and the rows of the table
// are written.
const whole = true
