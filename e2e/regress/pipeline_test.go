// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package regress

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/report"
)

// TestPipeline runs libpq_pipeline of src/test/modules. Where the source has a
// trace of all messages of a test, those on both ways are compared with each
// other, and with it. Through the node beside a standby they run in the vault's
// database, for a session moves only where it is.
func TestPipeline(t *testing.T) {
	src := fetch(t)
	dir := filepath.Join(src.Tests, "modules", "libpq_pipeline")
	program := build(t, src, filepath.Join(dir, "libpq_pipeline.c"))
	listed, err := run(t.Context(), program, "tests")
	if err != nil {
		t.Fatal(err)
	}
	tests := strings.Fields(listed)
	if len(tests) < 11 {
		t.Fatalf("libpq_pipeline has the tests %q, want at least 11", tests)
	}
	c := cluster.Start(t, cluster.Spec{Settings: settings, Standbys: 1})
	conn := c.Connect(t, c.SuperDSN(0))
	for _, database := range []string{"pipeline_direct", "pipeline_node"} {
		cluster.Exec(t, conn, "CREATE DATABASE "+database)
	}
	ways := map[string]struct{ address, database string }{
		"direct": {c.Nodes[0].Postgres, "pipeline_direct"}, "node": {c.Nodes[0].Proxy, "pipeline_node"}, "standby": {c.Nodes[1].Proxy, c.Database},
	}
	passed := map[string]int{}
	traces := 0
	for _, test := range tests {
		t.Run(test, func(t *testing.T) {
			want, err := os.ReadFile(filepath.Join(dir, "traces", test+".trace"))
			traced := err == nil
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			seen := map[string]string{}
			for way, at := range ways {
				trace, err := pipeline(t, c, program, test, at.address, at.database, traced)
				if err != nil {
					t.Errorf("%s: %v", way, err)
					continue
				}
				passed[way]++
				seen[way] = trace
			}
			if !traced || t.Failed() {
				return
			}
			traces++
			for _, way := range []string{"node", "standby"} {
				if seen[way] != seen["direct"] {
					t.Errorf("messages through the %s\n%s\ndirect\n%s", way, seen[way], seen["direct"])
				}
			}
			if !src.stale() && seen["node"] != string(want) {
				t.Errorf("messages through the node\n%s\nthe source has\n%s", seen["node"], want)
			}
		})
	}
	if traces == 0 {
		t.Errorf("no traces in %s", dir)
	}
	numbers := fmt.Sprintf("%d of %d direct, %d of %d through a node, %d of %d through a standby's", passed["direct"], len(tests), passed["node"], len(tests), passed["standby"], len(tests))
	t.Log(numbers)
	keepRow(t, "libpq_pipeline", src.String()+": "+numbers, report.Result{
		Feature: "every test, and where the source has a trace, the same messages", Outcome: outcome(t),
	})
}

// build compiles a client of libpq with the libraries of the server's package.
func build(t *testing.T, src *source, text string) string {
	t.Helper()
	config := func(what string) string {
		dir, err := run(t.Context(), filepath.Join(src.server, "pg_config"), what)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(dir)
	}
	program := filepath.Join(t.TempDir(), strings.TrimSuffix(filepath.Base(text), ".c"))
	lib := filepath.Join(filepath.Dir(src.server), "lib")
	if _, err := run(t.Context(), "gcc", "-O1", "-I"+config("--includedir"), "-I"+config("--includedir-server"), "-o", program, text,
		"-L"+config("--libdir"), "-lpq", filepath.Join(lib, "libpgcommon.a"), filepath.Join(lib, "libpgport.a")); err != nil {
		t.Fatal(err)
	}
	return program
}

// pipeline runs one test and returns its trace. What the source has none of can
// be endless: it sends until the server's answers block it.
func pipeline(t *testing.T, c *cluster.Cluster, program, test, address, database string, traced bool) (string, error) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	trace := filepath.Join(t.TempDir(), "trace")
	args := []string{"-r", "700"}
	if traced {
		args = append(args, "-t", trace)
	}
	args = append(args, test, fmt.Sprintf("host=%s port=%s user=%s dbname=%s", host, port, c.Superuser, database))
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PGPASSWORD=" + c.SuperuserPassword}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	if !traced {
		return "", nil
	}
	text, err := os.ReadFile(trace)
	return string(text), err
}
