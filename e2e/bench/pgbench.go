// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// load is one kind of pgbench run.
type load struct {
	clients int
	mode    string // simple, extended, prepared
	tls     bool
	connect bool   // a connection for each transaction
	script  string // of our own; empty: -S
}

// judged says whether the design sets goals for all figures: for 1 and 8 clients.
func (l load) judged() bool { return l.clients <= 8 && !l.tls }

// sample is what one run gave.
type sample struct {
	TPS float64       `json:"tps"`
	P50 time.Duration `json:"p50_ns"`
	P99 time.Duration `json:"p99_ns"`
	CPU time.Duration `json:"cpu_ns"` // of the proxy, a transaction; 0: no proxy

	done float64 // transactions
}

var (
	tpsLine  = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
	doneLine = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)`)
	failLine = regexp.MustCompile(`(?m)^number of failed transactions: (\d+)`)
)

// pgbench runs a load against a target.
func (w *world) pgbench(ctx context.Context, t target, l load, seconds float64) (sample, error) {
	dir, err := os.MkdirTemp("", "hyperion-vault-bench-")
	if err != nil {
		return sample{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary directory
	args := []string{
		"-n", "-M", l.mode, "-c", strconv.Itoa(l.clients), "-j", strconv.Itoa(min(l.clients, 2)),
		// Its clock starts before its clients log in, which is not counted.
		"-T", strconv.Itoa(max(1, int(seconds)+l.clients/32)),
		"--log", "--log-prefix", filepath.Join(dir, "log"), "--sampling-rate", "0.2",
	}
	if l.connect {
		args = append(args, "-C")
	}
	if l.script == "" {
		args = append(args, "-S")
	} else {
		path := filepath.Join(dir, "script")
		if err := os.WriteFile(path, []byte(l.script), 0o600); err != nil {
			return sample{}, err
		}
		args = append(args, "-f", path)
	}
	cmd := w.command(ctx, t, "pgbench", args...)
	if l.tls {
		cmd.Env = append(cmd.Env, "PGSSLMODE=require")
	}
	var before time.Duration
	if t.pid != 0 {
		if before, err = cpuTime(t.pid); err != nil {
			return sample{}, err
		}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return sample{}, fmt.Errorf("pgbench through %s: %w: %s", t.name, err, out)
	}
	s := sample{TPS: number(tpsLine, out)}
	s.done = number(doneLine, out)
	if s.TPS == 0 || s.done == 0 || number(failLine, out) != 0 {
		return sample{}, fmt.Errorf("pgbench through %s: %s", t.name, out)
	}
	if t.pid != 0 {
		after, err := cpuTime(t.pid)
		if err != nil {
			return sample{}, err
		}
		s.CPU = time.Duration(float64(after-before) / s.done)
	}
	s.P50, s.P99, err = latencies(dir)
	return s, err
}

func number(re *regexp.Regexp, text []byte) float64 {
	m := re.FindSubmatch(text)
	if m == nil {
		return 0
	}
	f, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		return 0
	}
	return f
}

// latencies reads pgbench's logs: "client transaction microseconds …".
func latencies(dir string) (p50, p99 time.Duration, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, "log.*"))
	if err != nil {
		return 0, 0, err
	}
	var all []time.Duration
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return 0, 0, err
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			field := strings.Fields(lines.Text())
			if len(field) < 3 {
				continue
			}
			us, err := strconv.ParseInt(field[2], 10, 64)
			if err != nil {
				continue // "skipped", "failed": counted elsewhere
			}
			all = append(all, time.Duration(us)*time.Microsecond)
		}
		_ = f.Close() // only read
		if err := lines.Err(); err != nil {
			return 0, 0, err
		}
	}
	if len(all) == 0 {
		return 0, 0, fmt.Errorf("pgbench logged nothing")
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*99/100], nil
}
