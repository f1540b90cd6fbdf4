// SPDX-License-Identifier: GPL-3.0-or-later

package main

/*
#include <sys/prctl.h>

// Before Go's runtime begins: what it starts has the slack of who started it.
__attribute__((constructor)) static void slacken(void)
{
	prctl(PR_SET_TIMERSLACK, 3000000UL, 0UL, 0UL, 0UL);
}
*/
import "C"

import "golang.org/x/sys/unix"

const (
	watchSlack   = 3_000_000 // ns; see slacken
	defaultSlack = 50_000
)

// Go has a thread that watches the others (sysmon). While a node is idle it sleeps, and
// each system call that may wait, as the write of an audit record, wakes it: it then looks
// around every 20 µs until the node is idle again, which has cost more than the record
// itself. With so much slack it looks some hundred times a second at most; that is also by how
// much later it gives the processor of a thread that waits for the disk to another one, so
// syncs are on a thread that Go does not know (package audit). All threads but those that the
// runtime begins with, or that this one starts, keep Linux's default.
func init() {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, defaultSlack, 0, 0, 0) // Linux cannot refuse it
}
