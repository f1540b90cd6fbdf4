// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestCacheIsBounded(t *testing.T) {
	c := newPlanCache(64 << 10)
	for i := range 10_000 {
		c.put(fmt.Appendf(nil, "key %d", i), &Plan{})
	}
	if n := len(c.young) + len(c.old); n > 64 || n < 16 {
		t.Errorf("%d entries", n)
	}
	if _, ok := c.get([]byte("key 9999")); !ok {
		t.Error("the youngest is gone")
	}
	if _, ok := c.get([]byte("key 0")); ok {
		t.Error("the oldest is there")
	}
	c.put([]byte(strings.Repeat("k", 32<<10)), &Plan{})
	if _, ok := c.get([]byte("key 9999")); !ok {
		t.Error("a large plan drove the others out")
	}
}

func TestCacheKeepsWhatIsUsed(t *testing.T) {
	c := newPlanCache(64 << 10)
	used := &Plan{}
	c.put([]byte("used"), used)
	for i := range 1_000 {
		c.put(fmt.Appendf(nil, "key %d", i), nil)
		if p, ok := c.get([]byte("used")); !ok || p != used {
			t.Fatalf("gone after %d", i)
		}
	}
}

func TestCacheOfNothing(t *testing.T) {
	c := newPlanCache(0)
	c.put([]byte("key"), &Plan{})
	if _, ok := c.get([]byte("key")); ok {
		t.Error("it remembers")
	}
}

// TestCacheHoldsNoNames: names and kinds are read for each text anew, so one
// entry serves all of the same length, each with its own names.
func TestCacheHoldsNoNames(t *testing.T) {
	a := testAnalyzer()
	o := Options{StdStrings: true, Settled: true}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			name := fmt.Sprintf("name%02d", i)
			sql := "select vault.put_secret('" + name + "', 's3cret')"
			p, r := a.Analyze(sql, o)
			if r != nil || p.Calls[0].Name.Text != name {
				t.Errorf("%s: %+v %v", name, p, r)
			}
		})
	}
	wg.Wait()
	if n := len(a.plans.young); n != 1 {
		t.Errorf("%d entries", n)
	}
	for key, p := range a.plans.young {
		if s := fmt.Sprintf("%s %+v", key, p); strings.Contains(s, "name0") || strings.Contains(s, "s3cret") {
			t.Error(s)
		}
	}
}

// TestCacheTellsOptionsApart: what changes the plan is part of the key.
func TestCacheTellsOptionsApart(t *testing.T) {
	a := testAnalyzer()
	const sql = "select put_secret('a', 'b'), vault.read_secret($1)"
	for i, o := range []Options{
		{},
		{StdStrings: true},
		{Extended: true},
		{Foreign: []Func{Put}},
		{Foreign: []Func{Verify}},
		{ParamTypes: []uint32{25}},
		{ParamTypes: []uint32{25, 0}},
	} {
		key := string(appendOptions([]byte(sql), o))
		for j, other := range []Options{{Foreign: []Func{Create}}, {Foreign: []Func{Rotate}}, {Foreign: []Func{Update}}, {ParamTypes: []uint32{26}}} {
			if key == string(appendOptions([]byte(sql), other)) {
				t.Errorf("%d and %d have one key", i, j)
			}
		}
		a.plans.put([]byte(key), &Plan{})
	}
	if n := len(a.plans.young); n != 7 {
		t.Errorf("%d keys", n)
	}
}

func BenchmarkAnalyze(b *testing.B) {
	for name, sql := range map[string]string{
		"read":           "select vault.read_secret($1)",
		"read with join": "select o.id, vault.read_secret('app/' || c.name)::text from customers c join orders o on o.customer = c.id where o.price > 100 and c.city = 'Berlin' order by o.id limit 10",
		"put":            "select vault.put_secret('app/db/password', 'correct horse battery staple')",
	} {
		o := Options{StdStrings: true, Settled: true, Extended: name == "read"}
		b.Run(name+"/hit", func(b *testing.B) {
			a := NewAnalyzer(Config{CacheBytes: 1 << 20})
			b.ReportAllocs()
			for b.Loop() {
				if _, r := a.Analyze(sql, o); r != nil {
					b.Fatal(r)
				}
			}
		})
		b.Run(name+"/miss", func(b *testing.B) {
			a := NewAnalyzer(Config{})
			b.ReportAllocs()
			for b.Loop() {
				if _, r := a.Analyze(sql, o); r != nil {
					b.Fatal(r)
				}
			}
		})
	}
}

func BenchmarkSplice(b *testing.B) {
	const sql = "select vault.put_secret('app/db/password', 'correct horse battery staple')"
	p := mustPlan(b, sql, Options{})
	values := [][]byte{[]byte(strings.Repeat("x", 700))}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = p.SpliceQuery(buf[:0], sql, values)
	}
}

// TestCacheTellsTextsApart: what a text before has left in the cache changes nothing.
func TestCacheTellsTextsApart(t *testing.T) {
	o := Options{StdStrings: true, Settled: true}
	said := func(a *Analyzer, sql string) string {
		p, r := a.Analyze(sql, o)
		if r != nil {
			return "refused: " + r.Message
		}
		if p == nil {
			return "passed"
		}
		out := "plan"
		for i, c := range p.Calls {
			v, err := p.DecodeValue(nil, sql, i)
			out += fmt.Sprintf("; %s of %q to %q %v", c.Func, c.Name.Text, v, err)
		}
		return out
	}
	for _, texts := range [][2]string{
		{`select vault.put_secret('a', U&'x!0041y' uescape '!')`, `select vault.put_secret('a', U&'x!0041y' uescape '#')`},
		{`select vault.put_secret('a', U&'x#0041y' uescape '!')`, `select vault.put_secret('a', U&'x#0041y' uescape '#')`},
		{`select vault.put_secret(U&'x!0041y' uescape '#', 'a')`, `select vault.put_secret(U&'x!0041y' uescape '!', 'a')`},
		{`select vault.put_secret('a', U&'x!y' uescape '!')`, `select vault.put_secret('a', U&'x!y' uescape '#')`},
		{`select "VAULT"."Put_Secrex"('a', 'b')`, `select "VAULT"."Put_Secret"('a', 'b')`},
		{`select "éabcdefghij"('vault', 'b')`, `select "éput_secret"('vault', 'b')`},
		{`select "vault.put_secrex"('a', 'b')`, `select "vault.put_secret"('a', 'b')`},
		{
			`create operator ### (rightarg = text, "functiom" = vault.rotate_secret)`,
			`create operator ### (rightarg = text, "function" = vault.rotate_secret)`,
		},
		{`create operator ### (rightarg = text, function = 'rotate_secrex')`, `create operator ### (rightarg = text, function = 'rotate_secret')`},
	} {
		for i := range texts {
			used := testAnalyzer()
			said(used, texts[1-i])
			if got, want := said(used, texts[i]), said(testAnalyzer(), texts[i]); got != want {
				t.Errorf("%s\n got %s\nwant %s", texts[i], got, want)
			}
		}
	}
}
