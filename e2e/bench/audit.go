// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"
)

// Goals of the audit: what it may cost, and how many records a sync must serve.
var (
	goalBatch  = &goal{must: 0.9, aim: 0.95}
	goalAlways = &goal{must: 10, aim: 20}
)

// auditWorld is three nodes at one server: with VAULT_AUDIT_SYNC=batch, with always,
// and one of the build that records nothing.
type auditWorld struct {
	*world
	dir                string // with their spools, on a disk
	slow               *slowDisk
	batch, always, off *besideNode
}

func newAuditWorld(ctx context.Context, w *world) (_ *auditWorld, err error) {
	a := &auditWorld{world: w}
	defer func() {
		if err != nil {
			a.end()
		}
	}()
	if a.dir, err = os.MkdirTemp("", "hyperion-vault-bench-"); err != nil {
		return nil, err
	}
	if err := onDisk(a.dir); err != nil {
		return nil, err
	}
	if a.slow, err = newSlowDisk(a.dir); err != nil {
		say("how many records share a sync is not measured: a slow disk takes root and control groups of version 1: %v", err)
	}
	for at, as := range map[**besideNode]beside{
		&a.batch:  {name: "batch", sync: "batch"},
		&a.always: {name: "always", sync: "always"},
		&a.off:    {name: "off", sync: "batch", unrecorded: true},
	} {
		if *at, err = w.startBeside(ctx, a.dir, as); err != nil {
			return nil, fmt.Errorf("node %s: %w", as.name, err)
		}
	}
	return a, nil
}

func (a *auditWorld) end() {
	for _, n := range []*besideNode{a.batch, a.always, a.off} {
		if n != nil {
			n.stop()
		}
	}
	if a.slow != nil {
		_ = a.slow.end() // nobody is in it any more
	}
	_ = os.RemoveAll(a.dir) // a temporary directory
}

// onDisk refuses a directory in memory: there a sync costs nothing.
func onDisk(dir string) error {
	const tmpfs = 0x01021994
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return err
	}
	if fs.Type == tmpfs {
		return fmt.Errorf("%s is in memory: set TMPDIR to a directory on a disk", filepath.Dir(dir))
	}
	return nil
}

// recorded is one run, with all that it has cost until its records were in the vault.
type recorded struct {
	sample
	all time.Duration // CPU of node and server, a transaction
}

func whole(r recorded) float64 { return micros(r.all) }

// recordedRun reads secrets through a node, and waits until what that has recorded is
// shipped: nobody else's run pays for it.
func (a *auditWorld) recordedRun(ctx context.Context, n *besideNode, clients int, seconds float64) (r recorded, err error) {
	before, err := a.spent(n)
	if err != nil {
		return r, err
	}
	r.sample, err = a.pgbench(ctx, n.target, load{clients: clients, mode: "prepared", script: readScript}, seconds)
	if err != nil {
		return r, err
	}
	if err := n.waitShipped(ctx); err != nil {
		return r, err
	}
	after, err := a.spent(n)
	r.all = time.Duration(float64(after-before) / r.done)
	return r, err
}

func (a *auditWorld) spent(n *besideNode) (time.Duration, error) {
	node, err := cpuTime(n.pid)
	if err != nil {
		return 0, err
	}
	server, err := serverTime(a.cluster.Nodes[0].PostgresPID)
	return node + server, err
}

// frameBytes is about what a record of a read takes in the spool.
const frameBytes = 256

// singleSyncs is how many records a second one gets to the disk who waits for each.
func singleSyncs(dir string, seconds float64) (rate float64, err error) {
	f, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, f.Close(), os.Remove(f.Name()))
	}()
	frame := make([]byte, frameBytes)
	begun, n := time.Now(), 0
	for ; time.Since(begun).Seconds() < seconds; n++ {
		if _, err := f.Write(frame); err != nil {
			return 0, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(begun).Seconds(), nil
}

// measureAudit compares reading with and without records, and records that wait for
// the disk together with syncs one after the other.
func measureAudit(ctx context.Context, w *world, o *options, clients int) ([]line, error) {
	if err := w.secrets(ctx, readSecrets); err != nil {
		return nil, err
	}
	a, err := newAuditWorld(ctx, w)
	if err != nil {
		return nil, err
	}
	defer a.end()
	run := func(n *besideNode) func() (recorded, error) {
		return func() (recorded, error) { return a.recordedRun(ctx, n, clients, o.seconds) }
	}
	for _, n := range []*besideNode{a.batch, a.always, a.off} {
		if _, err := run(n)(); err != nil { // fills the cache of data keys
			return nil, err
		}
	}
	off, batch, err := pairs(2*o.pairs, run(a.off), run(a.batch))
	if err != nil {
		return nil, err
	}
	free, always, err := pairs(o.pairs, run(a.off), run(a.always))
	if err != nil {
		return nil, err
	}
	rate := func(r recorded) float64 { return r.TPS }
	median := func(r recorded) float64 { return micros(r.P50) }
	least := func(r []recorded) float64 { return slices.Min(each(r, whole)) }
	what := fmt.Sprintf("read_secret, key cached, %d clients, VAULT_AUDIT_SYNC=", clients)
	const without, cost = "a build without audit", "CPU of node and server a transaction, until shipped, µs"
	lines := []line{
		compare(what+"batch", "transactions a second", without, batch, off, rate, goalBatch),
		compare(what+"batch", "p50, µs", without, batch, off, median, nil),
		{Row: what + "batch", What: cost, PeerName: without, Node: least(batch), Peer: least(off), Ratio: least(batch) / least(off), Nodes: each(batch, whole), Peers: each(off, whole)},
		compare(what+"always", "transactions a second", without, always, free, rate, nil),
	}
	if a.slow == nil {
		return lines, nil
	}
	grouped, err := a.grouped(o, what, clients, run(a.always))
	return append(lines, grouped), err
}

// grouped compares records that wait for a slow disk together with syncs of it one
// after the other.
func (a *auditWorld) grouped(o *options, what string, clients int, run func() (recorded, error)) (line, error) {
	syncs, always, err := pairs(o.pairs, func() (r recorded, err error) {
		return r, a.slow.use(os.Getpid(), func() (err error) {
			r.TPS, err = singleSyncs(a.dir, min(1, o.seconds))
			return err
		})
	}, func() (r recorded, err error) {
		return r, a.slow.use(a.always.pid, func() (err error) {
			r, err = run()
			return err
		})
	})
	if err != nil {
		return line{}, err
	}
	rate := func(r recorded) float64 { return r.TPS }
	l := compare(fmt.Sprintf("%salways, a disk that does %d writes a second", what, slowWrites), "transactions a second", "one fdatasync after the other", always, syncs, rate, nil)
	if clients == 64 {
		l.goal = goalAlways
	}
	return l, nil
}

var auditNumber = regexp.MustCompile(`(?m)^hyperion_vault_audit_(last|shipped)_record ([0-9.e+]+)$`)
