// SPDX-License-Identifier: GPL-3.0-or-later

//go:build !race

package audit

// stride is the distance between the calls that are made to fail: all are.
const stride = 1
