// SPDX-License-Identifier: GPL-3.0-or-later

// Package report keeps what real clients did through a node, and makes the
// tables of docs/TRANSPARENCY.md from it. A test opens a Row, runs each of its
// features under it, and the row is written to e2e/out/transparency when the
// test ends; TestTransparencyDoc (the end of `make e2e`) holds the document to
// the rows, and with -update (`make transparency`) writes it.
package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A Kind is the table that a row belongs to.
type Kind string

const (
	// Drivers are libraries that programs connect with.
	Drivers Kind = "drivers"
	// Tools are programs that connect by themselves.
	Tools Kind = "tools"
	// Loads are what only reads, through the node beside a standby.
	Loads Kind = "loads"
	// Suites are tests that the PostgreSQL project wrote.
	Suites Kind = "suites"
)

// An Outcome is what became of one feature.
type Outcome string

const (
	// Passed has no remark, but in suites: the numbers.
	Passed Outcome = "passed"
	// Failed rows never reach the document: the run failed too.
	Failed Outcome = "failed"
	// Absent is a feature that the client does not have; the remark says so.
	Absent Outcome = "absent"
)

// A Result is one feature's.
type Result struct {
	Feature string  `json:"feature"`
	Outcome Outcome `json:"outcome"`
	Remark  string  `json:"remark,omitempty"`
}

// A Row is one client's. Its methods may be called by tests in parallel.
type Row struct {
	Kind    Kind     `json:"kind"`
	Client  string   `json:"client"`
	Version string   `json:"version"`
	Server  string   `json:"server,omitempty"`
	Results []Result `json:"results"`

	mu sync.Mutex
}

// Open starts a row, which is written when the test ends. Client names the row;
// version is the client's own word, for readers only.
func Open(tb testing.TB, kind Kind, client, version string) *Row {
	tb.Helper()
	r := &Row{Kind: kind, Client: client, Version: version}
	tb.Cleanup(func() {
		if err := r.write(); err != nil {
			tb.Errorf("write the row: %v", err)
		}
	})
	return r
}

// Beside says beside which server the node was: "primary" or "standby". A client's
// rows of several servers are one line of the table.
func (r *Row) Beside(server string) *Row {
	r.Server = server
	return r
}

// Run runs a feature as a subtest and keeps its outcome.
func (r *Row) Run(t *testing.T, feature string, test func(t *testing.T)) {
	t.Helper()
	outcome := Failed
	if t.Run(feature, test) {
		outcome = Passed
	}
	r.Add(Result{Feature: feature, Outcome: outcome})
}

// Add keeps a result that something else than Run has seen.
func (r *Row) Add(result Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Results = append(r.Results, result)
}

// Dir is where the rows are, below the repository's root.
const Dir = "e2e/out/transparency"

func (r *Row) write() error {
	root, err := root()
	if err != nil {
		return err
	}
	dir := filepath.Join(root, Dir)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // results, for everybody to read
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	name := string(r.Kind) + "-" + r.Client
	if r.Server != "" {
		name += "-" + r.Server
	}
	name = strings.Map(func(c rune) rune {
		if strings.ContainsRune("/ :", c) {
			return '-'
		}
		return c
	}, name)
	return os.WriteFile(filepath.Join(dir, name+".json"), append(text, '\n'), 0o644) //nolint:gosec // as above
}

// root is the repository's directory.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "Makefile")); err == nil {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				return dir, nil
			}
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no repository above the working directory")
		}
	}
}
