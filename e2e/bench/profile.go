// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
)

// profile records where the node spends its time under one load, with perf: the
// kernel's share, which is most of it, is not in a pprof profile, and the
// release build has no pprof.
func profile(ctx context.Context, w *world, o *options) error {
	if err := w.pgbenchTables(ctx); err != nil {
		return err
	}
	seconds := max(4, int(o.seconds))
	l := load{clients: 8, mode: "prepared"}
	perf := exec.CommandContext(ctx, "perf", "record", "-q", "-g", "-o", o.profile, "-p", strconv.Itoa(w.node.pid), //nolint:gosec // a file that the caller named
		"--", "sleep", strconv.Itoa(seconds-2))
	perf.Stderr = os.Stderr
	done := make(chan error, 1)
	go func() {
		_, err := w.pgbench(ctx, w.node, l, float64(seconds))
		done <- err
	}()
	if err := perf.Run(); err != nil {
		return fmt.Errorf("perf: %w", err)
	}
	if err := <-done; err != nil {
		return err
	}
	say("perf report -i %s --no-children", o.profile)
	return nil
}
