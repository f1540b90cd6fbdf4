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

// TestPromises: each rule of docs/PROTOCOL.md and each promise of
// docs/THREAT_MODEL.md names tests, and they exist. A name is a test function's, or
// a transcript's file.
func TestPromises(t *testing.T) {
	for _, doc := range []struct {
		name, header string
		least        int
	}{
		{"PROTOCOL.md", "| rule | seen by |", 80},
		{"THREAT_MODEL.md", "| what holds | seen by |", 48},
	} {
		t.Run(doc.name, func(t *testing.T) {
			if n := promises(t, doc.name, doc.header); n < doc.least {
				t.Errorf("promises: got %d, want all of them", n)
			}
		})
	}
}

// promises checks the rows of a document's tables that have this header.
func promises(t *testing.T, name, header string) (rows int) {
	t.Helper()
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]map[string]bool{}
	inTable := false
	for n, line := range strings.Split(string(text), "\n") {
		if inTable = line == header || inTable && strings.HasPrefix(line, "|"); !inTable || !strings.HasPrefix(line, "| ") || line == header {
			continue
		}
		rows++
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
			for _, test := range strings.Split(m[2], ", ") {
				if !known[folder][test] {
					t.Errorf("line %d: there is no %s in %s", n+1, test, folder)
				}
			}
		}
	}
	return rows
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
