// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package soak

import (
	"bufio"
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/load"
)

// busyShare is how much of the machine the clients may take. The rest is for who attacks
// them, and for what hundreds cost more than a few.
const busyShare = 0.4

// slowest is when clients do too little to be called at work.
const slowest = 15 * time.Second

// atPace slows the clients down where the machine is too slow for them: a process's
// start, of which each session and each cancel request costs the server one, takes a
// millisecond on one machine and fifteen on another.
func (r *run) atPace(t *testing.T) {
	t.Helper()
	before, err := busy()
	if err != nil {
		t.Fatal(err)
	}
	few := load.Start(t.Context(), load.Spec{DSN: r.c.DSN(0, r.c.User), Clients: 5, Secrets: 1, Prefix: "soak/pace"})
	wait(t, 10*time.Second)
	few.Stop()
	if r.right(t, few); t.Failed() {
		t.FailNow()
	}
	after, err := busy()
	if err != nil {
		t.Fatal(err)
	}
	piece := (after - before) / time.Duration(few.Pieces.Load())
	r.spec.pace = max(r.spec.pace, time.Duration(float64(piece)*float64(r.spec.sessions)/busyShare/float64(runtime.NumCPU())))
	t.Logf("a piece of work costs the machine %v: one every %v of each client", piece.Round(time.Microsecond), r.spec.pace.Round(time.Millisecond))
	if r.spec.pace > slowest {
		t.Fatal("the machine, or the node, is too slow for so many clients: SOAK_PACE=1m lets them wait all the same")
	}
}

// busy is how long the machine's processors have worked (proc(5), /proc/stat).
func busy() (d time.Duration, err error) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		return 0, err
	}
	const tick = time.Second / 100 // sysconf(_SC_CLK_TCK), on every Linux of today
	for i, field := range strings.Fields(line)[1:] {
		if i == 3 || i == 4 || i > 6 { // idle and iowait, and what is counted twice or is others'
			continue
		}
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		d += time.Duration(n) * tick
	}
	return d, nil
}
