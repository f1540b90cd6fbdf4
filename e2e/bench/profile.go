// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
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

// compilerProfile writes the profile by which the compiler decides what to optimise: of a
// node of the build with the tag profile, under the three forms of the protocol and
// reading secrets.
func compilerProfile(ctx context.Context, w *world, o *options) error {
	if err := w.pgbenchTables(ctx); err != nil {
		return err
	}
	if err := w.secrets(ctx, readSecrets); err != nil {
		return err
	}
	mine := fmt.Sprintf("/tmp/hyperion-vault.%d.pprof", w.node.pid)
	defer func() { _ = os.Remove(mine) }() // in /tmp
	if err := syscall.Kill(w.node.pid, syscall.SIGUSR1); err != nil {
		return err
	}
	for range o.pairs {
		for _, mode := range pgbenchTo {
			if _, err := w.pgbench(ctx, w.node, load{clients: 8, mode: mode}, o.seconds); err != nil {
				return err
			}
		}
		if _, err := w.pgbench(ctx, w.node, load{clients: 8, mode: "prepared", script: readScript}, o.seconds); err != nil {
			return err
		}
	}
	if err := syscall.Kill(w.node.pid, syscall.SIGUSR1); err != nil {
		return err
	}
	for deadline := time.Now().Add(time.Minute); ; {
		text, err := os.ReadFile(mine)
		if err == nil {
			return os.WriteFile(o.pgo, text, 0o644) //nolint:gosec // part of the source
		}
		if err := later(ctx, deadline, "the node writes no profile: is it of the build with the tag profile?"); err != nil {
			return err
		}
	}
}
