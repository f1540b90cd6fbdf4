// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"syscall"
	"time"
)

// A node takes the processors that it needs, one to begin with: what it does is
// mostly waiting, and threads of Go's that look for work in vain cost a third of
// what there is to do. So it takes another only once it has long used all that it has, or
// once sessions wait for their turn: somebody has it for long, or has it on a processor
// that the system gives to others.
type processors struct {
	most  int
	has   int
	full  int // for how many looks they were not enough
	late  int // for how many looks turns came late
	spare int // for how many looks one less would have been enough; negative: for how many that is not asked
}

const (
	lookInterval = 100 * time.Millisecond
	fullLooks    = 3
	spareLooks   = 50  // five seconds
	lateLooks    = 300 // half a minute: who makes turns late seldom does it once
	busy         = 0.9 // of a processor: there is no more to be had
	enough       = 0.8 // of a processor, or of the others, would do as well

	lateAfter = 4 * time.Millisecond // of waiting for a turn; 128 busy sessions have 2 at most
	lateShare = 8                    // one of so many is too many
)

// newProcessors leaves half of the processors to the server beside the node, but
// can take two where there are two. GOMAXPROCS in the environment goes before: then it
// is nil.
func newProcessors(environ []string, n int) *processors {
	for _, setting := range environ {
		if strings.HasPrefix(setting, "GOMAXPROCS=") {
			return nil
		}
	}
	return &processors{most: min(n, max(2, n/2)), has: 1}
}

// next returns how many there are to be, if used of them were used since the last
// time, and turns came late.
func (p *processors) next(used float64, late bool) int {
	if used <= busy*float64(p.has) {
		p.full = 0
	} else {
		p.full++
	}
	if late {
		p.late++
	} else {
		p.late = 0
	}
	waits := p.late >= fullLooks // before, it may be a few log-ins, or a processor that somebody else had
	if waits {
		p.spare = spareLooks - lateLooks
	} else if used > enough*float64(p.has-1) {
		p.spare = min(p.spare, 0)
	} else {
		p.spare++
	}
	switch {
	case (waits && p.has == 1 || p.full >= fullLooks) && p.has < p.most:
		p.has++
		p.full, p.spare = 0, min(p.spare, 0)
	case p.spare >= spareLooks && p.has > 1:
		p.has--
		p.spare = 0
	}
	return p.has
}

// share takes and gives back processors until ctx ends.
func (p *processors) share(ctx context.Context) {
	if p == nil {
		return
	}
	runtime.GOMAXPROCS(p.has)
	ticks := time.NewTicker(lookInterval)
	defer ticks.Stop()
	waits := newTurns()
	last, at := cpuTime(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		cpu, now, had := cpuTime(), time.Now(), p.has
		if p.next(float64(cpu-last)/float64(max(1, now.Sub(at))), waits.late()) != had {
			runtime.GOMAXPROCS(p.has)
		}
		last, at = cpu, now
	}
}

// turns is how long goroutines waited for a processor once they could go on; the runtime
// notes one of eight.
type turns struct {
	sample    []metrics.Sample
	all, long uint64 // so far
}

func newTurns() *turns {
	t := &turns{sample: []metrics.Sample{{Name: "/sched/latencies:seconds"}}}
	t.late() // the start
	return t
}

// late says whether too many have waited for too long since the last time; one alone
// is chance.
func (t *turns) late() bool {
	metrics.Read(t.sample)
	waited := t.sample[0].Value.Float64Histogram()
	var all, long uint64
	for i, n := range waited.Counts {
		all += n
		if waited.Buckets[i] >= lateAfter.Seconds() {
			long += n
		}
	}
	newAll, newLong := all-t.all, long-t.long
	t.all, t.long = all, long
	return newLong > 1 && newLong >= newAll/lateShare
}

// cpuTime is what the process has used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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
