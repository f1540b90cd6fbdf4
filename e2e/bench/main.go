// SPDX-License-Identifier: GPL-3.0-or-later

// Command bench measures a node against PgBouncer and against no proxy at all,
// on servers that it starts itself. `make bench` runs it.
//
// Runs are interleaved: PgBouncer, then the node, then the node, then PgBouncer,
// and so on. What counts is the median of the ratios of neighbours, so that a
// machine that is slower for a while is so for both; and of CPU time the least
// per transaction, because neighbours can only add to it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// options are the command line's.
type options struct {
	quick    bool
	only     *regexp.Regexp // rows to run; nil: all
	pairs    int
	seconds  float64 // of one pgbench run
	sessions int     // idle ones, at most
	settle   time.Duration
	json     string
	markdown string
	profile  string // a file for perf's profile of the node; empty: none
	pgo      string // a file for the compiler's; empty: none
}

func main() {
	o := &options{}
	var only, bare string
	flag.StringVar(&bare, "bare", "", "serve, at this address, what REST is compared with; for this program itself")
	flag.BoolVar(&o.quick, "quick", false, "fewer rows, shorter runs")
	flag.StringVar(&only, "only", "", "run only the rows whose id matches this expression")
	flag.IntVar(&o.pairs, "pairs", 0, "pairs of runs a row (default 7, quick 3)")
	flag.Float64Var(&o.seconds, "seconds", 0, "seconds of one pgbench run (default 3, quick 1)")
	flag.IntVar(&o.sessions, "sessions", 5000, "idle sessions, at most: fewer if memory is short")
	flag.DurationVar(&o.settle, "settle", 0, "how long idle sessions are left alone before memory is read (default 150s, quick 5s)")
	flag.StringVar(&o.json, "json", "", "file for all numbers")
	flag.StringVar(&o.markdown, "markdown", "", "document whose table between the bench markers is replaced")
	flag.StringVar(&o.profile, "profile", "", "record a profile of the node with perf into this file instead of measuring")
	flag.StringVar(&o.pgo, "pgo", "", "write a profile for the compiler into this file instead of measuring (make profile)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM) //nolint:forbidigo // the root of all
	err := o.defaults(only)
	switch {
	case err != nil:
	case bare != "":
		err = serveBare(ctx, bare)
	default:
		err = run(ctx, o)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (o *options) defaults(only string) error {
	if only != "" {
		var err error
		if o.only, err = regexp.Compile(only); err != nil {
			return err
		}
	}
	choose := func(full, quick float64) float64 {
		if o.quick {
			return quick
		}
		return full
	}
	if o.pairs == 0 {
		o.pairs = int(choose(7, 3))
	}
	if o.seconds == 0 {
		o.seconds = choose(3, 1)
	}
	if o.settle == 0 {
		o.settle = time.Duration(choose(150, 5)) * time.Second
	}
	if o.quick {
		o.sessions = min(o.sessions, 500)
	}
	return nil
}

func run(ctx context.Context, o *options) error {
	begun := time.Now()
	w, err := newWorld(ctx)
	if err != nil {
		return err
	}
	defer w.stop()
	if o.profile != "" {
		return profile(ctx, w, o)
	}
	if o.pgo != "" {
		return compilerProfile(ctx, w, o)
	}
	r := &report{Date: begun.UTC().Format(time.DateOnly), Pairs: o.pairs, Seconds: o.seconds, Quick: o.quick}
	if err := r.describe(ctx, w); err != nil {
		return err
	}
	todo := rows(o)
	var failed error // a row that fails does not take the others with it
	for i, t := range todo {
		say("[%d/%d, %s] %s", i+1, len(todo), time.Since(begun).Round(time.Second), t.id)
		lines, err := t.measure(ctx, w, o)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", t.id, err))
			say("    %v", err)
			if ctx.Err() != nil {
				return failed
			}
		}
		for _, l := range lines {
			say("    %s", l)
		}
		r.Lines = append(r.Lines, lines...)
	}
	r.Took = time.Since(begun).Round(time.Second).String()
	say("done in %s", r.Took)
	return errors.Join(failed, r.write(o))
}

// say is the progress.
func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }
