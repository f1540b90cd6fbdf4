// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"fmt"
	"strings"
	"testing"
)

// Where a role may list: the spans hold all names that it may, none twice, in order.
func TestListed(t *testing.T) {
	for _, c := range []struct {
		rules  string // patterns for list
		prefix string
		want   string
	}{
		{"", "", ""},
		{"*", "", "*"},
		{"*", "a/", "a/*"},
		{"a/* b", "", "a/* b"},
		{"b a/*", "", "a/* b"},
		{"a/* a/b/* a/c", "", "a/*"},
		{"a a* b", "", "a* b"},
		{"a* a", "", "a*"},
		{"a a/*", "", "a a/*"},
		{"ab ac a* b*", "", "a* b*"},
		{"a/*", "a/b", "a/b*"},
		{"a/*", "b", ""},
		{"a/b/*", "a/", "a/b/*"},
		{"a/b", "a/", "a/b"},
		{"a/b", "a/b/c", ""},
		{"a a", "", "a"},
	} {
		a := &Access{rules: []rule{{"read", "*"}}}
		for _, pattern := range strings.Fields(c.rules) {
			a.rules = append(a.rules, rule{"list", pattern})
		}
		var got []string
		for _, s := range a.listed(c.prefix) {
			text := s.begin
			if !s.exact {
				text += "*"
			}
			got = append(got, text)
		}
		if fmt.Sprint(got) != fmt.Sprint(strings.Fields(c.want)) {
			t.Errorf("%s under %q: got %v, want %s", c.rules, c.prefix, got, c.want)
		}
	}
	if got := (&Access{admin: true}).listed("a"); len(got) != 1 || got[0] != (span{begin: "a"}) {
		t.Errorf("an administrator: %v", got)
	}
	for _, c := range []struct {
		s    span
		name string
		want bool
	}{
		{span{begin: "b/"}, "", false},
		{span{begin: "b/"}, "a", false},
		{span{begin: "b/"}, "b/", false},
		{span{begin: "b/"}, "b/x", false},
		{span{begin: "b/"}, "b0", true},
		{span{begin: "b/"}, "c", true},
		{span{"b", true}, "", false},
		{span{"b", true}, "a", false},
		{span{"b", true}, "b", true},
		{span{"b", true}, "b/x", true},
	} {
		if got := c.s.before(c.name); got != c.want {
			t.Errorf("%v before %q: %v", c.s, c.name, got)
		}
	}
}
