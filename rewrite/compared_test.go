// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"strings"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// TestComparedOnce: however expressions and queries stand in each other, no node of
// the tree is looked at twice.
func TestComparedOnce(t *testing.T) {
	const read = "vault.read_secret('a')"
	rep := strings.Repeat
	ones := "array[1" + rep(",1", 2000) + "]"
	nested := func(before, inner, after string) string {
		return "select " + rep(before, 300) + inner + rep(after, 300)
	}
	for name, sql := range map[string]string{
		"coalesce":        nested("coalesce("+read+",", ones, ")"),
		"coalesce, first": nested("coalesce(", ones, ","+read+")"),
		"least":           nested("least("+read+",", ones, ")"),
		"case":            nested("case "+read+" when ", ones, " then 1 end"),
		"case, results":   nested("case when x then "+read+" else ", ones, " end"),
		"in":              nested("("+read+" in (", ones, "))"),
		"operators":       nested("("+read+" = ", ones, ")"),
		"left to right":   "select " + ones + rep(" || "+read, 300),
		"functions":       nested("lower(concat("+read+",", ones, "))"),
		"casts":           nested("(", read, "::text)"),
		"scalar queries":  nested("(select "+read+" = ", ones, ")"),
		"in queries":      nested(read+" in (select ", ones, ")"),
		"stars":           "select v = 'x' from " + rep("(select *, * from ", 300) + "(select " + read + " v) t" + rep(") t", 300),
		"unions":          "select " + read + rep(" union all select 'x'", 300),
		"WITH":            "with a0 as (select " + read + ` v)` + rep(", a1 as (select a1.*, a0.* from a0, a1)", 300) + " select v = 'x' from a1",
		"names":           "select " + read + rep(", v0", 2000) + " from (select 1 v" + rep(", 1 v", 2000) + ") t",
		"joins":           "select " + read + " from (select 1 v) t" + rep(" natural join (select 1 v) t", 300),
	} {
		tree, err := pg.Parse(sql)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all := 0
		walk(tree.ProtoReflect(), func(any) { all++ })
		c := comparison{refuse: func(*Refusal) {}}
		c.look(tree.ProtoReflect(), nil)
		if c.nodes > all {
			t.Errorf("%s: looked at %d nodes, there are %d", name, c.nodes, all)
		}
	}
}
