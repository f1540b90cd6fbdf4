// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"time"
)

// shareProcessors leaves half of the processors to the server beside the node:
// what the node does is mostly waiting, and threads of Go's that look for work
// in vain cost more than they bring. It takes two where there are two: with one,
// all sessions wait while one of them gives it work, and Go looks for what has
// arrived only every 10 ms. GOMAXPROCS in the environment goes before.
func shareProcessors(environ []string) {
	for _, setting := range environ {
		if strings.HasPrefix(setting, "GOMAXPROCS=") {
			return
		}
	}
	n := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(min(n, max(2, n/2)))
}

// A node that relays allocates nothing, so Go would keep what log-ins have used
// until its next collection and most of it beyond: about as much again as the
// sessions themselves take, beside a database that could use it.
const (
	calmInterval = 20 * time.Second
	calmBytes    = 8 << 20 // allocated in an interval: metrics and health checks, some log-ins
)

// returnMemory gives free memory back to the system whenever the node has become
// calm, until ctx ends.
func returnMemory(ctx context.Context) {
	ticks := time.NewTicker(calmInterval)
	defer ticks.Stop()
	allocated := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	var c calm
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		if metrics.Read(allocated); c.begins(allocated[0].Value.Uint64()) {
			debug.FreeOSMemory()
		}
	}
}

// calm is what has been seen of the memory allocated so far.
type calm struct {
	last uint64
	is   bool
}

// begins reports whether next to nothing was allocated since the last time, for
// the first time after more was.
func (c *calm) begins(allocated uint64) bool {
	was := c.is
	c.is = allocated-c.last < calmBytes
	c.last = allocated
	return c.is && !was
}
