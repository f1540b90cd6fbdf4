// SPDX-License-Identifier: GPL-3.0-or-later

package doccheck

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

var (
	seenBy   = regexp.MustCompile("`([a-z0-9_/-]+)` ((?:[A-Za-z0-9_.-]+(?:, )?)+)")
	testName = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)
)

// TestProtocolRules: each rule of docs/PROTOCOL.md names tests, and they exist.
// A name is a test function's, or a transcript's file.
func TestProtocolRules(t *testing.T) {
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "PROTOCOL.md"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]map[string]bool{}
	rules := 0
	for n, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(line, "| ") || line == "| rule | seen by |" {
			continue
		}
		rules++
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		found := seenBy.FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(cells) != 2 || len(found) == 0 {
			t.Errorf("line %d names no test: %s", n+1, line)
			continue
		}
		if strings.Contains(cells[1], "?") {
			t.Errorf("line %d is not done: %s", n+1, line)
		}
		for _, m := range found {
			folder := m[1]
			if known[folder] == nil {
				known[folder] = tests(t, filepath.Join(root, folder))
			}
			for _, name := range strings.Split(m[2], ", ") {
				if !known[folder][name] {
					t.Errorf("line %d: there is no %s in %s", n+1, name, folder)
				}
			}
		}
	}
	if rules < 80 {
		t.Errorf("rules: got %d, want all of them", rules)
	}
}

// tests are the names of a folder's test functions and transcripts.
func tests(t *testing.T, folder string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	paths, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		switch {
		case strings.HasSuffix(path, "_test.go"):
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range testName.FindAllStringSubmatch(string(source), -1) {
				names[m[1]] = true
			}
		case strings.HasSuffix(path, ".txt"):
			names[filepath.Base(path)] = true
		}
	}
	return names
}
