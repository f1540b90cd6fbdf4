// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package soak

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/load"
)

// A sample is what clients that behave have measured in one phase, and how many
// processors the node used.
type sample struct {
	node, server []time.Duration
	used         float64
}

func (s *sample) add(other sample) {
	s.node, s.server = append(s.node, other.node...), append(s.server, other.server...)
}

// prepare starts the clients that measure, at the node and at the server's port.
func (r *run) prepare(t *testing.T) {
	t.Helper()
	first := r.c.Connect(t, r.c.DSN(0, r.c.User))
	cluster.Exec(t, first, "SELECT vault.put_secret('soak/probe', 'probe')")
	first.Close(t.Context())
	r.atNode = newProbe(t, r.c, r.c.DSN(0, r.c.User), "probe")
	r.atServer = newProbe(t, r.c, r.c.DirectDSN(0, r.c.User), "hv1.")
}

// phase measures for a quarter of the time, beside an attack if there is one.
func (r *run) phase(t *testing.T, f *load.Fleet, attack func() (stop func())) sample {
	t.Helper()
	if attack != nil {
		defer attack()()
		wait(t, min(r.spec.duration/30, 10*time.Second)) // until they are all there
	}
	r.atNode.begin()
	r.atServer.begin()
	before, began := r.nodeTime(t), time.Now()
	wait(t, r.spec.duration/phases)
	used := float64(r.nodeTime(t)-before) / float64(time.Since(began))
	r.right(t, f)
	return sample{r.atNode.taken(), r.atServer.taken(), used}
}

// nodeTime is the processor time that the node has used: its CPU-time clock, as
// clock_getcpuclockid(3) makes it.
func (r *run) nodeTime(t *testing.T) time.Duration {
	t.Helper()
	const sched = 2 // in nanoseconds, by the scheduler
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^r.n.PID<<3|sched), &at); err != nil {
		t.Fatal(err)
	}
	return time.Duration(at.Nano())
}

// phases is how many parts the time has.
const phases = 5

// finish stops the clients that measure.
func (r *run) finish(t *testing.T) {
	t.Helper()
	for _, p := range []*probe{r.atNode, r.atServer} {
		p.stop()
		if err := p.err(); err != nil {
			t.Errorf("the measuring clients: %v", err)
		}
	}
}

// asOne gives the node as much of the processors as a service manager would: there
// it is one group, and all of the server's processes are another. Without one Linux
// shares by session, and each of the server's processes has its own (setsid(2), sched(7)
// "The autogroup feature"), so that a node is one among hundreds.
func (r *run) asOne(t *testing.T) {
	t.Helper()
	const most = "-20" // as many as 87 others
	err := os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", r.n.PID), []byte(most), 0)
	if err != nil && r.spec.measured {
		t.Logf("the node has no more of the processors than one process of the server's has (%v): latencies say little", err)
	}
}

// compare says what the hostile clients cost the others: strangers at most twice
// the time, but for what is slower at the server's own port, too, while the node leaves it
// half of the machine: they share that with all they attack. So do insiders, who have a role's password, of the median; what they
// do to the 99th percentile is said, beside what the same ones do at the server's
// own port (docs/DECISIONS.md).
func compare(t *testing.T, measured bool, calm sample, bad map[string]sample) {
	t.Helper()
	for _, q := range []struct {
		name   string
		at     float64
		judged []string
	}{{"median", 0.5, []string{strangers, insiders}}, {"99th percentile", 0.99, []string{strangers}}} {
		of := func(d []time.Duration) time.Duration {
			if len(d) == 0 {
				t.Fatal("nothing was measured")
			}
			slices.Sort(d)
			return d[int(q.at*float64(len(d)-1))]
		}
		node, server := of(calm.node), of(calm.server)
		t.Logf("latency, %s: calm %v (at the server %v)", q.name, node, server)
		for _, who := range []string{strangers, insiders, insidersAtServer} {
			n, s := of(bad[who].node), of(bad[who].server)
			ratio, itself := float64(n)/float64(node), float64(s)/float64(server)
			t.Logf("latency, %s, beside %s: %v, %.2f times (at the server %v, %.2f times; the node used %.2f processors)", q.name, who, n, ratio, s, itself, bad[who].used)
			if bad[who].used > float64(runtime.NumCPU())/2 {
				itself = 1 // it may be the node that the server waits for
			}
			if ratio /= max(1, itself); measured && ratio > 2 && slices.Contains(q.judged, who) {
				t.Errorf("hostile %s make the %s %.2f times as much longer as at the server, more than 2", who, q.name, ratio)
			}
		}
	}
}
