// SPDX-License-Identifier: GPL-3.0-or-later

//go:build transparency

package report

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/TRANSPARENCY.md")

// marked is a generated part of the document: its kind, and what stands there.
var marked = regexp.MustCompile(`(?s)(<!-- made by make transparency: (\w+) -->\n\n?)(.*?)(<!-- end -->)`)

// version is a row's second cell, which a point release of a package may change.
var version = regexp.MustCompile(`(?m)^(\| [^|]+ \|) [^|]* \|`)

// TestTransparencyDoc holds docs/TRANSPARENCY.md to the rows that the tests
// before it have left. A kind of which this run has no row at all keeps what
// is recorded: `make regress` is a run of its own.
func TestTransparencyDoc(t *testing.T) {
	root, err := root()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := load(filepath.Join(root, Dir))
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) == 0 {
		t.Fatalf("no rows in %s: run `make e2e`", Dir)
	}
	path := filepath.Join(root, "docs", "TRANSPARENCY.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	made := marked.ReplaceAllStringFunc(string(text), func(part string) string {
		m := marked.FindStringSubmatch(part)
		fresh := table(rows, Kind(m[2]))
		if fresh == "" {
			return part
		}
		if strings.Contains(fresh, " ? |") || strings.Contains(fresh, " ?,") || strings.Contains(fresh, "**no**") || strings.Contains(fresh, "**failed**") {
			t.Errorf("%s: something failed or was not tried:\n%s", m[2], fresh)
		}
		if !*update && version.ReplaceAllString(strings.TrimSpace(m[3]), "$1") == version.ReplaceAllString(strings.TrimSpace(fresh), "$1") {
			return part
		}
		return m[1] + fresh + "\n" + m[4]
	})
	if made == string(text) || t.Failed() {
		return
	}
	if !*update {
		t.Fatalf("docs/TRANSPARENCY.md is not what the run has shown: `make transparency` writes it; it should say\n%s", made)
	}
	if err := os.WriteFile(path, []byte(made), 0o644); err != nil {
		t.Fatal(err)
	}
}
