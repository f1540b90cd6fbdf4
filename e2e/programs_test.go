// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// program runs one of PostgreSQL's and returns what it printed on stdout and on
// stderr.
func program(t *testing.T, env []string, name string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := cluster.Command(t, env, cluster.Bin(t, name), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// mustRun is program for what must work.
func mustRun(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	stdout, stderr, err := program(t, env, name, args...)
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, stderr)
	}
	return stdout
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
