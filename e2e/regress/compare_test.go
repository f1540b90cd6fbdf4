// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package regress

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/report"
)

// compare names every test that a node makes different without being listed,
// and every listed one that is not different. stale: the expected files are
// another version's, so a test may fail direct without being listed.
func (s *suite) compare(direct, node results, stale bool) []string {
	var wrong []string
	say := func(test, what string) { wrong = append(wrong, test+": "+what) }
	all := maps.Clone(direct)
	maps.Copy(all, node)
	for test := range s.different {
		if _, ran := all[test]; !ran {
			say(test, "is listed, and was not run")
		}
	}
	for _, test := range slices.Sorted(maps.Keys(all)) {
		d, ranDirect := direct[test]
		n, ranNode := node[test]
		_, different := s.different[test]
		_, unfit := s.unfit[test]
		switch {
		case !ranDirect || !ranNode:
			say(test, "ran one way only")
		case d.passed && !n.passed && !different:
			say(test, "passes direct and fails through the node")
		case !d.passed && n.passed:
			say(test, "fails direct and passes through the node")
		case !d.passed && !unfit && !stale:
			say(test, "fails both ways and is not listed as unfit")
		case !d.passed && d.output != n.output && !different:
			say(test, "fails both ways, with different output")
		case different && d.passed == n.passed && (d.passed || d.output == n.output):
			say(test, "is listed as different, and is the same")
		case unfit && d.passed:
			say(test, "is listed as unfit, and passes")
		}
	}
	return wrong
}

// check runs the suite both ways, compares, and keeps the numbers.
func (s *suite) check(t *testing.T) {
	t.Helper()
	direct, node := s.both(t)
	src := fetch(t)
	for _, wrong := range s.compare(direct, node, src.stale()) {
		t.Error(wrong)
	}
	if t.Failed() {
		t.Logf("see e2e/out/regress/%s-{direct,node}.diffs", s.name)
	}
	numbers := fmt.Sprintf("%d of %d direct, %d of %d through a node", direct.passed(), len(direct), node.passed(), len(node))
	t.Logf("%s: %s", s.name, numbers)
	for _, test := range slices.Sorted(maps.Keys(direct)) {
		if !direct[test].passed {
			t.Logf("fails both ways: %s: %s", test, s.reason(test, src))
		}
	}
	keepRow(t, s.name, src.String()+": "+numbers, report.Result{
		Feature: "each test that passes direct passes through a node" + s.exceptions() + "; one that fails has the same output", Outcome: outcome(t),
	})
}

// exceptions are the words for the tests that are different.
func (s *suite) exceptions() string {
	var said []string
	for _, test := range slices.Sorted(maps.Keys(s.different)) {
		said = append(said, fmt.Sprintf("%s (%s)", test, s.different[test]))
	}
	if len(said) == 0 {
		return ""
	}
	return ", but for " + strings.Join(said, ", ")
}

func (s *suite) reason(test string, src *source) string {
	if why, listed := s.unfit[test]; listed {
		return why
	}
	return "its expected file is of " + src.Version + ", the server is " + src.Server
}

func (r results) passed() int {
	n := 0
	for _, one := range r {
		n += bit(one.passed)
	}
	return n
}

func outcome(t *testing.T) report.Outcome {
	t.Helper()
	if t.Failed() {
		return report.Failed
	}
	return report.Passed
}

// keepRow writes a row of the table, in a run of all suites only. The numbers
// stand beside the version: they follow the packages of the machine.
func keepRow(t *testing.T, name, version string, result report.Result) {
	t.Helper()
	if whole {
		report.Open(t, report.Suites, name, version).Add(result)
	}
}

func TestCompare(t *testing.T) {
	pass, fail, other := result{passed: true}, result{output: "x"}, result{output: "y"}
	tests := map[string]struct {
		direct, node  results
		listed, unfit string
		stale         bool
		want          string
	}{
		"same":                    {direct: results{"a": pass}, node: results{"a": pass}},
		"missing":                 {direct: results{"a": pass}, node: results{}, want: "a: ran one way only"},
		"missing direct":          {direct: results{}, node: results{"a": pass}, want: "a: ran one way only"},
		"node fails":              {direct: results{"a": pass}, node: results{"a": fail}, stale: true, want: "a: passes direct and fails through the node"},
		"node fails, listed":      {direct: results{"a": pass}, node: results{"a": fail}, listed: "a"},
		"listed, passes":          {direct: results{"a": pass}, node: results{"a": pass}, listed: "a", want: "a: is listed as different, and is the same"},
		"listed, not direct":      {direct: results{"a": fail}, node: results{"a": fail}, listed: "a", stale: true, want: "a: is listed as different, and is the same"},
		"direct fails":            {direct: results{"a": fail}, node: results{"a": pass}, stale: true, want: "a: fails direct and passes through the node"},
		"both fail":               {direct: results{"a": fail}, node: results{"a": fail}, want: "a: fails both ways and is not listed as unfit"},
		"both fail, listed":       {direct: results{"a": fail}, node: results{"a": fail}, unfit: "a"},
		"both fail, stale":        {direct: results{"a": fail}, node: results{"a": fail}, stale: true},
		"both fail, otherwise":    {direct: results{"a": fail}, node: results{"a": other}, stale: true, want: "a: fails both ways, with different output"},
		"unfit, fails otherwise":  {direct: results{"a": fail}, node: results{"a": other}, unfit: "a", want: "a: fails both ways, with different output"},
		"unfit, passes":           {direct: results{"a": pass}, node: results{"a": pass}, unfit: "a", want: "a: is listed as unfit, and passes"},
		"output of what passes":   {direct: results{"a": {passed: true, output: "x"}}, node: results{"a": {passed: true, output: "y"}}},
		"listed, other and stale": {direct: results{"a": fail}, node: results{"a": other}, listed: "a", stale: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := &suite{different: map[string]string{}, unfit: map[string]string{}}
			if test.listed != "" {
				s.different[test.listed] = "a reason"
			}
			if test.unfit != "" {
				s.unfit[test.unfit] = "a reason"
			}
			got := s.compare(test.direct, test.node, test.stale)
			if test.want == "" && len(got) > 0 || test.want != "" && (len(got) != 1 || got[0] != test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
