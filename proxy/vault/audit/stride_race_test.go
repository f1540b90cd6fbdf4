// SPDX-License-Identifier: GPL-3.0-or-later

//go:build race

package audit

// stride: the race detector makes a life ten times as long; `make unit` runs these
// tests without it as well.
const stride = 7
