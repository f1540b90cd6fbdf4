// SPDX-License-Identifier: GPL-3.0-or-later

//go:build docker

// Package docker tests the images and the cluster of docker/compose.yml on a
// container engine: make e2e-docker.
package docker

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var built = flag.Bool("built", false, "take the images of the last run as they are")

// shared is the cluster, whole whenever a test begins.
var shared *trial

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	ctx := context.Background()
	if flag.Lookup("test.list").Value.String() != "" {
		return m.Run()
	}
	if out, err := command(ctx, "docker", "version"); err != nil {
		fmt.Fprintf(os.Stderr, "no container engine answers, so nothing can be tested: %v\n%s", err, out)
		return 1
	}
	var err error
	if shared, err = start(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "the cluster does not start: %v\n", err)
		code = 1
	} else {
		code = m.Run()
	}
	if code != 0 {
		shared.tellLogs(ctx)
	}
	if err := shared.remove(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// wait asks until it is so. What is waited for here takes seconds: elections,
// starts of servers.
func wait(t *testing.T, what string, within time.Duration, ok func() error) {
	t.Helper()
	if err := until(t.Context(), within, ok); err != nil {
		t.Fatalf("%s: not within %s: %v", what, within, err)
	}
}

func until(ctx context.Context, within time.Duration, ok func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// short is an output's end, for an error.
func short(out string) string {
	const most = 2000
	out = strings.TrimSpace(out)
	if len(out) > most {
		out = "…" + out[len(out)-most:]
	}
	return out
}
