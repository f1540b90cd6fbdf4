// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A notifier tells the service manager what the node does, as sd_notify(3) says:
// one datagram a change, to the socket that the manager names in the environment.
// Empty: nobody wants to know.
type notifier string

// stopMargin is for what a node does after the drain.
const stopMargin = 15 * time.Second

func newNotifier(environ []string) notifier {
	for _, setting := range environ {
		if socket, ok := strings.CutPrefix(setting, "NOTIFY_SOCKET="); ok {
			return notifier(socket)
		}
	}
	return ""
}

// ready: every listener is served, or a reload is over.
func (n notifier) ready() { n.send("READY=1") }

// reloading: until the next ready.
func (n notifier) reloading() {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return // a reload that nobody hears of is a reload all the same
	}
	n.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/int64(time.Microsecond)))
}

// stopping: no later than within the time given; the manager's own limit would
// not know VAULT_DRAIN_SECS.
func (n notifier) stopping(within time.Duration) {
	n.send(fmt.Sprintf("STOPPING=1\nEXTEND_TIMEOUT_USEC=%d", within.Microseconds()))
}

// send tries once: a node serves also where nobody listens.
func (n notifier) send(state string) {
	if n == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: string(n), Net: "unixgram"})
	if err != nil {
		return
	}
	_, _ = conn.Write([]byte(state)) // a datagram: all or nothing, and nobody to tell
	_ = conn.Close()
}
