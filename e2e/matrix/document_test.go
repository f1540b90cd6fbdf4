// SPDX-License-Identifier: GPL-3.0-or-later

//go:build compatibility

package matrix

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	results  = "../out/matrix"
	document = "../../docs/COMPATIBILITY.md"
)

var (
	marked   = regexp.MustCompile(`(?s)(<!-- made by make matrix -->\n).*?(<!-- end -->)`)
	allOf    = regexp.MustCompile(`All (\d+) tests passed`)
	byScript = regexp.MustCompile(`(?m)^ok [a-z_]+$`)
)

// A column is what was seen of one major.
type column struct {
	cells  map[string]string // by line
	failed []string
}

// lines are the table's, in the order in which they came up.
type lines []string

func (l *lines) add(line string) {
	if !slices.Contains(*l, line) {
		*l = append(*l, line)
	}
}

// TestCompatibilityDoc writes the table of docs/COMPATIBILITY.md from what
// `make matrix` has left; it fails if something has failed, and says so there too.
func TestCompatibilityDoc(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(results, "*", "e2e.json"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("results: got %d, %v: run `make matrix`", len(dirs), err)
	}
	var order, packages lines
	heads, columns := []string{}, []column{}
	order.add("server")
	for _, path := range dirs {
		dir := filepath.Dir(path)
		c := column{cells: map[string]string{}}
		if err := c.extension(filepath.Join(dir, "extension.txt"), &order); err != nil {
			t.Fatal(err)
		}
		if err := c.tests(path, &order, &packages); err != nil {
			t.Fatal(err)
		}
		heads, columns = append(heads, filepath.Base(dir)), append(columns, c)
		for _, name := range c.failed {
			t.Errorf("PostgreSQL %s: failed: %s", filepath.Base(dir), name)
		}
	}
	slices.Sort(packages)
	var b strings.Builder
	fmt.Fprintf(&b, "| | %s |\n|---|%s\n", strings.Join(heads, " | "), strings.Repeat("---|", len(heads)))
	for _, line := range append(order, packages...) {
		fmt.Fprintf(&b, "| %s |", line)
		for _, c := range columns {
			cell := c.cells[line]
			if cell == "" {
				cell = "–"
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if !marked.Match(text) {
		t.Fatalf("%s has no place for the table", document)
	}
	made := marked.ReplaceAllString(string(text), "${1}\n"+strings.ReplaceAll(b.String(), "$", "$$")+"\n${2}")
	if err := os.WriteFile(document, []byte(made), 0o644); err != nil {
		t.Fatal(err)
	}
}

// extension reads what the extension's suites printed.
func (c *column) extension(path string, order *lines) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	suites, checks := allOf.FindAllStringSubmatch(string(text), -1), len(byScript.FindAllString(string(text), -1))
	for i, line := range []string{"extension: pg_regress files", "extension: isolation specs", "extension: log, dump, restore, standby, worker"} {
		order.add(line)
		switch {
		case i < 2 && i < len(suites):
			c.cells[line] = suites[i][1]
		case i == 2 && strings.HasSuffix(strings.TrimSpace(string(text)), "ok hot_standby"):
			c.cells[line] = fmt.Sprint(checks)
		default:
			c.cells[line] = "**failed**"
			c.failed = append(c.failed, line)
		}
	}
	return nil
}

// An event is one of `go test -json`.
type event struct {
	Action, Package, Test, Key, Value string
}

// tests reads what the end-to-end tests said: a line of its own for each check, and
// for the rest how many of a package passed.
func (c *column) tests(path string, order, packages *lines) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	attrs, passed, failed := map[string]map[string]string{}, map[string]int{}, map[string]int{}
	for decoder := json.NewDecoder(file); decoder.More(); {
		var e event
		if err := decoder.Decode(&e); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		name := strings.TrimPrefix(e.Package, "github.com/hyperiondb/hyperion-vault/")
		switch e.Action {
		case "attr":
			if attrs[e.Test] == nil {
				attrs[e.Test] = map[string]string{}
			}
			attrs[e.Test][e.Key] = e.Value
		case "pass":
			passed[name]++
		case "fail":
			failed[name]++
			c.failed = append(c.failed, name+" "+e.Test)
		}
		if line := attrs[e.Test]["check"]; line != "" && (e.Action == "pass" || e.Action == "fail") {
			c.check(line, e.Action, attrs[e.Test]["seen"], order)
		}
	}
	for name, n := range passed {
		if strings.HasSuffix(name, "/matrix") || n+failed[name] == 1 { // the lines above, or a package without tests
			continue
		}
		line := "`" + name + "`, tests"
		packages.add(line)
		c.cells[line] = fmt.Sprint(n)
		if failed[name] > 0 {
			c.cells[line] = fmt.Sprintf("%d, **%d failed**", n, failed[name])
		}
	}
	return nil
}

func (c *column) check(line, action, seen string, order *lines) {
	order.add(line)
	switch {
	case action == "fail":
		c.cells[line] = "**failed**"
	case seen != "":
		c.cells[line] = seen
	default:
		c.cells[line] = "yes"
	}
}
