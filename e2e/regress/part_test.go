// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e && !regress

package regress

// whole: without the build tag regress, only libpq_pipeline runs.
const whole = false
