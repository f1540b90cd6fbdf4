// SPDX-License-Identifier: GPL-3.0-or-later

package doccheck

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// runnable are the documents in which no block may be without a comment.
var runnable = []string{
	"README.md", "docs/API.md", "docs/SQL.md", "docs/ERRORS.md", "docs/ARCHITECTURE.md", "docs/DECISIONS.md", "docs/OPERATIONS.md",
	"docs/CI.md", "docs/CONFIG.md", "docs/KUBERNETES.md",
}

var kinds = []string{"node", "server", "shell", "output", "proof", "docker", "make", "packages", "image", "schema", "yaml", "illustration"}

func documents(t *testing.T) []string {
	t.Helper()
	docs := []string{"README.md"}
	for _, path := range glob(t, "docs/*.md") {
		docs = append(docs, relative(t, path))
	}
	return docs
}

// TestBlocksMarked: every block of these documents is run, or says that it is not.
func TestBlocksMarked(t *testing.T) {
	for _, doc := range runnable {
		found, err := blocks(readFile(t, doc))
		if err != nil {
			t.Errorf("%s: %v", doc, err)
		}
		for i, b := range found {
			if !slices.Contains(kinds, b.kind) {
				t.Errorf("%s:%d: what becomes of this block? (doccheck comment %q)", doc, b.line, b.kind)
			}
			if b.kind == "output" && (i == 0 || !slices.Contains([]string{"node", "server", "shell", "packages"}, found[i-1].kind)) {
				t.Errorf("%s:%d: output of no block", doc, b.line)
			}
		}
	}
}

var (
	makeCall   = regexp.MustCompile("(?m)(?:`|^|&& )make ([a-z][a-z0-9 -]*)")
	makeTarget = regexp.MustCompile(`(?m)^  ([a-z0-9-]+) +\S`)
)

// TestMakeTargets: what the documents tell a reader to make can be made, and
// `make help` explains it.
func TestMakeTargets(t *testing.T) {
	help, err := exec.CommandContext(t.Context(), "make", "--silent", "--directory", root(t), "help").Output()
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, m := range makeTarget.FindAllStringSubmatch(string(help), -1) {
		targets = append(targets, m[1])
	}
	for _, doc := range documents(t) {
		for _, m := range makeCall.FindAllStringSubmatch(readFile(t, doc), -1) {
			for _, target := range strings.Fields(m[1]) {
				if !slices.Contains(targets, target) {
					t.Errorf("%s: make %s: `make help` has no such target", doc, target)
				}
			}
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	anchor  = regexp.MustCompile(`<a id="([^"]+)"></a>`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	notSlug = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// TestLinks: links inside the repository lead somewhere.
func TestLinks(t *testing.T) {
	for _, doc := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(readFile(t, doc), -1) {
			target, fragment, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := doc
			if target != "" {
				path = filepath.Join(filepath.Dir(doc), target)
			}
			text, err := os.ReadFile(filepath.Join(root(t), path))
			if err != nil {
				t.Errorf("%s: link %s: %v", doc, m[1], err)
				continue
			}
			if fragment != "" && !slices.Contains(anchors(string(text)), fragment) {
				t.Errorf("%s: link %s: no such place in %s", doc, m[1], path)
			}
		}
	}
}

// anchors are the places of a document that a link can name.
func anchors(text string) []string {
	var found []string
	for _, m := range anchor.FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		slug := notSlug.ReplaceAllString(strings.ToLower(m[1]), "")
		found = append(found, strings.ReplaceAll(slug, " ", "-"))
	}
	return found
}

// TestSame is the comparison's own test.
func TestSame(t *testing.T) {
	for _, c := range []struct {
		printed, shown string
		want           bool
	}{
		{"a \n\n", "a\n", true},
		{" hv1.AAAA(b)\n(1 row)\n", " hv1.…\n(1 row)\n", true},
		{"a\nb\n", "a\n", false},
		{"axb\n", "a.b\n", false},
		{"a\n", "…\na\n", false},
	} {
		if got := same(c.printed, c.shown); got != c.want {
			t.Errorf("same(%q, %q): got %v, want %v", c.printed, c.shown, got, c.want)
		}
	}
}

// TestBlocks is the reader's own test.
func TestBlocks(t *testing.T) {
	text := "a\n## a b\n  c\n<!-- doccheck: node, type: x y -->\n```sql\n1\n2\n```\n\n```sh\nls\n```\n<!-- doccheck: output -->\n\n```text\n3\n```\n"
	found, err := blocks(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []block{
		{line: 5, section: "a b", kind: "node", typed: "x y", language: "sql", text: "1\n2\n"},
		{line: 10, section: "a b", language: "sh", text: "ls\n"},
		{line: 15, section: "a b", kind: "output", language: "text", text: "3\n"},
	}
	if !slices.Equal(found, want) {
		t.Errorf("got %v, want %v", found, want)
	}
	if texts, err := Texts(text, "node"); err != nil || !slices.Equal(texts, []string{"1\n2\n"}) {
		t.Errorf("the blocks of a kind: got %q, %v", texts, err)
	}
	for _, bad := range []string{"```sh\nls\n", "<!-- doccheck node -->\n<!-- doccheck: Node -->\n"} {
		if _, err := blocks(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
