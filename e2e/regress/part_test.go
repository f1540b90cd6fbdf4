// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e && !regress

package regress

// Without the build tag regress, the first groups of each schedule run: a group
// needs only what those before it have made.
const (
	whole           = false
	coreGroups      = 10
	isolationGroups = 40
)

var isolationExtra []string
