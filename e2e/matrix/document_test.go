// SPDX-License-Identifier: GPL-3.0-or-later

//go:build compatibility

package matrix

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	results  = "../out/matrix"
	document = "../../docs/COMPATIBILITY.md"
	missing  = "–" // was not run
)

var (
	marked   = regexp.MustCompile(`(?s)(<!-- made by make matrix -->\n).*?(<!-- end -->)`)
	allOf    = regexp.MustCompile(`All (\d+) tests passed`)
	seenWith = regexp.MustCompile(`\(\d+\.\d+\)$`) // of a cell: the extension that it was seen with
	byScript = regexp.MustCompile(`(?m)^ok ([a-z_]+)$`)
	packaged = regexp.MustCompile(`(?m)^package (\S+): built, `)
)

// A column is what was seen of one major.
type column struct {
	cells    map[string]string // by line
	failed   []string
	from, to string // the days of the run
	whole    bool   // all of it was run
	old      bool   // nothing was: it is the table's
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
	dirs, err := filepath.Glob(filepath.Join(results, "*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("results: got %d, %v: run `make matrix`", len(dirs), err)
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	place := marked.FindString(string(text))
	if place == "" {
		t.Fatalf("%s has no place for the table", document)
	}
	order, packages := lines{"server", "extension", "run"}, lines{}
	columns := map[string]column{}
	for _, dir := range dirs {
		c := column{cells: map[string]string{}}
		if err := c.read(dir, &order, &packages); err != nil {
			t.Fatal(err)
		}
		columns[filepath.Base(dir)] = c
		for _, name := range c.failed {
			t.Errorf("PostgreSQL %s: failed: %s", filepath.Base(dir), name)
		}
	}
	keep(place, columns, &order, &packages)
	slices.Sort(packages)
	made := marked.ReplaceAllString(string(text), "${1}\n"+strings.ReplaceAll(table(columns, append(order, packages...)), "$", "$$")+"\n${2}")
	if err := os.WriteFile(document, []byte(made), 0o644); err != nil {
		t.Fatal(err)
	}
}

// keep takes from the table that there is what was not run again: the columns of
// majors that were not run, and of those that were run in part the other cells, with
// the extension's version that they were seen with.
func keep(place string, columns map[string]column, order, packages *lines) {
	var heads []string
	with := map[string]string{} // by major
	for line := range strings.Lines(place) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(cells[0], "-") {
			continue
		}
		if heads == nil {
			heads = cells
			continue
		}
		for i, major := range heads {
			if i == 0 || cells[i] == missing {
				continue
			}
			c, run := columns[major]
			if !run {
				c = column{cells: map[string]string{}, old: true}
				columns[major] = c
			}
			if cells[0] == "extension" {
				with[major] = cells[i]
			}
			c.keep(cells[0], cells[i], with[major], order, packages)
		}
	}
}

// keep takes a cell, unless it was seen anew.
func (c column) keep(name, cell, with string, order, packages *lines) {
	switch {
	case c.whole || c.cells[name] != "":
		return
	case c.old || seenWith.MatchString(cell):
		c.cells[name] = cell
	default:
		c.cells[name] = cell + " (" + with + ")"
	}
	if strings.HasSuffix(name, "`, tests") {
		packages.add(name)
	} else {
		order.add(name)
	}
}

// table is the table, and below it what was not run.
func table(columns map[string]column, order lines) string {
	heads := slices.Sorted(maps.Keys(columns))
	var b strings.Builder
	fmt.Fprintf(&b, "| | %s |\n|---|%s\n", strings.Join(heads, " | "), strings.Repeat("---|", len(heads)))
	missed := map[string][]string{} // by major
	for _, line := range order {
		fmt.Fprintf(&b, "| %s |", line)
		for _, major := range heads {
			cell := columns[major].cells[line]
			if cell == "" {
				cell = missing
				missed[major] = append(missed[major], line)
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	if len(missed) > 0 {
		b.WriteString("\n" + missing + " was not part of that major's last run:\n\n")
	}
	for _, major := range slices.Sorted(maps.Keys(missed)) {
		fmt.Fprintf(&b, "* %s: %s.\n", major, strings.Join(missed[major], "; "))
	}
	return b.String()
}

// read reads what a run of one major left.
func (c *column) read(dir string, order, packages *lines) error {
	if err := c.extension(filepath.Join(dir, "extension.txt"), order); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return err
	}
	for _, path := range files {
		if err := c.tests(path, order, packages); err != nil {
			return err
		}
	}
	_, err = os.Stat(filepath.Join(dir, "whole"))
	c.whole = err == nil
	c.cells["run"] = c.from
	if c.to != c.from {
		c.cells["run"] += " to " + c.to
	}
	return nil
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
	suites, checks, deb := allOf.FindAllStringSubmatch(string(text), -1), byScript.FindAllStringSubmatch(string(text), -1), packaged.FindSubmatch(text)
	for i, line := range []string{
		"extension: pg_regress files", "extension: isolation specs", "extension: log, dump, restore, standby, worker",
		"extension: its package built, looked at by lintian, installed by apt for all that follows",
	} {
		order.add(line)
		switch {
		case i < 2 && i < len(suites):
			c.cells[line] = suites[i][1]
		case i == 2 && len(checks) > 0 && checks[len(checks)-1][1] == "hot_standby":
			c.cells[line] = fmt.Sprint(len(checks))
		case i == 3 && deb != nil:
			c.cells[line] = "`" + string(deb[1]) + "`"
		default:
			c.cells[line] = "**failed**"
			c.failed = append(c.failed, line)
		}
	}
	return nil
}

// An event is one of `go test -json`.
type event struct {
	Time                              time.Time
	Action, Package, Test, Key, Value string
}

// tests reads what the end-to-end tests said: a line of its own for each check, and
// for the rest how many of a package passed.
func (c *column) tests(path string, order, packages *lines) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()                                                         // only read
	attrs, passed, failed := map[string]map[string]string{}, map[string]int{}, map[string]int{} // by test, by package
	for decoder := json.NewDecoder(file); decoder.More(); {
		var e event
		if err := decoder.Decode(&e); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		day := e.Time.UTC().Format(time.DateOnly)
		if c.to = max(c.to, day); c.from == "" || day < c.from {
			c.from = day
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
			passed[name] += 0
			failed[name]++
			c.failed = append(c.failed, name+" "+e.Test)
		}
		if line := attrs[e.Test]["check"]; line != "" && (e.Action == "pass" || e.Action == "fail") {
			c.check(line, e.Action, attrs[e.Test]["seen"], order)
		}
	}
	for name, n := range passed {
		if strings.HasSuffix(name, "/matrix") || n == 1 && failed[name] == 0 { // the lines above, or a package without tests
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
