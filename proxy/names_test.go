// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

func TestNamesAreBounded(t *testing.T) {
	ss := &session{}
	ss.stmts = map[string]*statement{}
	ss.parsed(&statement{name: "put", plan: putPlan(t)})
	for i := range 3 * maxStatements {
		ss.parsed(&statement{name: fmt.Sprint("plain", i)})
	}
	if len(ss.stmts) > maxStatements || !ss.stmts["put"].puts() {
		t.Errorf("%d names, the put kept: %v", len(ss.stmts), ss.stmts["put"].puts())
	}
	for i := range 3 * maxStatements {
		ss.lose([]byte(fmt.Sprint("lost", i)))
	}
	if _, sealed := ss.bindTarget([]byte("lost29999")); len(ss.stmts) > maxStatements || !sealed {
		t.Errorf("%d names; a name that was lost is bound in clear: %v", len(ss.stmts), !sealed)
	}
}

// A client that drops its names by SQL, of which the node hears nothing, can put under
// new ones for ever.
func TestNamesThatComeAndGo(t *testing.T) {
	ss := &session{}
	for i := range 4 * maxStatements {
		ss.parsed(&statement{name: fmt.Sprint("plain", i)})
		if i%1000 == 999 {
			if e := ss.keepable(&statement{name: "put", plan: putPlan(t)}); e != nil {
				t.Fatalf("behind %d names: %v", i+1, e)
			}
		}
	}
}

// Among names that are to be kept there is little to be forgotten: that is not looked for
// each time.
func TestNamesAreSeldomLookedThrough(t *testing.T) {
	ss := &session{}
	plan := putPlan(t)
	for i := range maxStatements - 1 {
		ss.keep(&statement{name: fmt.Sprint("put", i), plan: plan})
	}
	looked := 0
	for i := range searchEvery {
		ss.keep(&statement{name: "last"}) // the one that can be forgotten
		ss.room(fmt.Sprint("plain", i))
		if _, kept := ss.stmts["last"]; !kept {
			looked++
		}
	}
	if looked != 1 {
		t.Errorf("looked through %d times for %d names", looked, searchEvery)
	}
}

// A put whose Parse is refused leaves nothing that its value could be bound to: not what
// takes values already, which may be of another secret, or take the name where that has
// the value.
func TestLostOverAPut(t *testing.T) {
	for _, name := range []string{"", "s"} {
		value := []byte("canary")
		ss := &session{}
		ss.parsed(&statement{name: name, plan: putPlan(t), values: [][]byte{value}})
		ss.lose([]byte(name))
		if st, sealed := ss.bindTarget([]byte(name)); !sealed || !st.lost {
			t.Errorf("%q stands for %+v, want nothing that can be bound", name, st)
		}
		if bytes.Contains(value, []byte("canary")) {
			t.Errorf("%q: the older statement's value is kept", name)
		}
	}
}

// TestReparsedIsErased: values in a statement's text are gone when its name has another.
func TestReparsedIsErased(t *testing.T) {
	value := []byte("canary")
	ss := &session{srv: &Server{}}
	for _, values := range [][][]byte{{value}, nil} {
		ss.queue.push(ss.parsed(&statement{name: "s", plan: putPlan(t), values: values}))
		ss.acknowledged(wire.ParseComplete)
	}
	if bytes.Contains(value, []byte("canary")) {
		t.Error("the older statement's value is kept")
	}
}

// TestDeallocateAllTwice: the second one of a pipeline finds what was parsed between.
func TestDeallocateAllTwice(t *testing.T) {
	ss := &session{}
	ss.tag([]byte("DEALLOCATE ALL\x00"))
	ss.keep(&statement{name: "a"})
	ss.tag([]byte("DEALLOCATE ALL\x00"))
	if len(ss.stmts) != 0 {
		t.Errorf("left %v", ss.stmts)
	}
	next := &statement{name: "b"}
	ss.queue.push(owed{kind: oweQuery})
	ss.queue.push(ss.parsed(next))
	ss.tag([]byte("DEALLOCATE ALL\x00"))
	if ss.stmts["b"] != next {
		t.Error("what is parsed behind it is gone")
	}
	ss.queue.pop()
	ss.acknowledged(wire.ParseComplete)
	ss.tag([]byte("DEALLOCATE ALL\x00"))
	if len(ss.stmts) != 0 {
		t.Errorf("left %v, which it has dropped", ss.stmts)
	}
}

func TestDeallocateAllForgets(t *testing.T) {
	value := []byte("canary")
	old := &statement{name: "s", plan: putPlan(t), values: [][]byte{value}}
	next := &statement{name: "s", plan: putPlan(t)}
	ss := &session{}
	ss.stmts = map[string]*statement{"s": next, "other": {name: "other"}, "put": {name: "put", plan: putPlan(t)}}
	ss.queue.push(owed{kind: oweQuery})
	ss.queue.push(owed{kind: oweParse, named: true, stmt: next, prev: old})
	ss.tag([]byte("DEALLOCATE ALL\x00"))
	if ss.stmts["s"] != next || ss.stmts["other"] != nil {
		t.Errorf("left %v, want what is parsed behind it", ss.stmts)
	}
	if bytes.Contains(value, []byte("canary")) {
		t.Error("the older statement's value is kept")
	}
	// What a client may yet bind its values to stays known as one that takes values.
	if st := ss.stmts["put"]; st == nil || !st.lost || st.plan != nil || !ss.queue.at(1).prev.lost {
		t.Errorf("the put: %+v, want it lost", st)
	}
}

// So many of them are remembered; then no name that only the server knows is bound.
func TestManyDeallocated(t *testing.T) {
	ss := &session{}
	plan := putPlan(t)
	for i := range maxLost + 1 {
		ss.keep(&statement{name: strconv.Itoa(i), plan: plan})
	}
	ss.forgetAll()
	if _, sealed := ss.bindTarget([]byte("sql's")); len(ss.stmts) != maxLost || !sealed {
		t.Errorf("%d are remembered, another name is held: %v", len(ss.stmts), sealed)
	}
	if ss.executesPut(&rewrite.Plan{Executes: []string{"sql's"}}) == nil {
		t.Error("another name is executed")
	}
}

// What the client has lost behind a PREPARE that the server answers later, or parses by
// that name behind it, stays what it is.
func TestPreparedIsInOrder(t *testing.T) {
	for name, row := range map[string]struct {
		before, behind func(*session)
		sealed         bool
	}{
		"lost before":              {before: func(ss *session) { ss.lose([]byte("s")) }},
		"lost behind":              {behind: func(ss *session) { ss.lose([]byte("s")) }, sealed: true},
		"lost before and behind":   {before: func(ss *session) { ss.lose([]byte("s")) }, behind: func(ss *session) { ss.lose([]byte("s")) }, sealed: true},
		"lost behind, and dropped": {behind: func(ss *session) { ss.lose([]byte("s")); ss.forgetAll() }, sealed: true},
		"parsed before":            {before: func(ss *session) { ss.parsed(&statement{name: "s", plan: putPlan(t)}) }},
		"parsed behind":            {behind: func(ss *session) { ss.queue.push(ss.parsed(&statement{name: "s", plan: putPlan(t)})) }, sealed: true},
		"among more than are kept": {before: func(ss *session) { ss.lostMany = true }},
	} {
		ss := &session{}
		if row.before != nil {
			row.before(ss)
		}
		ss.pushExecute(&portal{stmt: &statement{plan: &rewrite.Plan{Prepares: []string{"s"}}}})
		if row.behind != nil {
			row.behind(ss)
		}
		ss.completed(wire.CommandComplete, []byte("PREPARE\x00"))
		if _, sealed := ss.bindTarget([]byte("s")); sealed != row.sealed {
			t.Errorf("%s: its arguments are held back: %v, want %v", name, sealed, row.sealed)
		}
	}
}

// What stands behind EXECUTE in code is mostly no name: of those that nobody knows none is
// taken for a put that was forgotten.
func TestGuessedNames(t *testing.T) {
	ss := &session{}
	ss.lose([]byte("lost"))
	ss.losePrepared([]string{rewrite.AnyName}) // from here on any name may be one
	for name, row := range map[string]struct {
		plan   rewrite.Plan
		sealed bool
	}{
		"executed":       {rewrite.Plan{Executes: []string{"format"}}, true},
		"guessed":        {rewrite.Plan{Guessed: []string{"format", "on"}}, false},
		"guessed, lost":  {rewrite.Plan{Guessed: []string{"format", "lost"}}, true},
		"guessed, any":   {rewrite.Plan{Guessed: []string{rewrite.AnyName}}, true},
		"nothing at all": {rewrite.Plan{}, false},
	} {
		if e := ss.executesPut(&row.plan); (e != nil) != row.sealed {
			t.Errorf("%s: got %v", name, e)
		}
	}
	if e := (&session{}).executesPut(&rewrite.Plan{Guessed: []string{rewrite.AnyName}}); e != nil {
		t.Errorf("a session without a put: got %v", e)
	}
}

func TestWhatIsNotKept(t *testing.T) {
	ss := &session{}
	ss.stmts = map[string]*statement{"a": {name: "a", plan: putPlan(t), values: [][]byte{make([]byte, maxKeptValues-10)}}}
	for _, st := range []*statement{
		{name: "b", plan: putPlan(t), values: [][]byte{make([]byte, 11)}},
		{name: "\u00e9", plan: putPlan(t)},
	} {
		if ss.keepable(st) == nil {
			t.Errorf("%q is kept", st.name)
		}
	}
	if e := ss.keepable(&statement{name: "c", plan: putPlan(t), values: [][]byte{make([]byte, 10)}}); e != nil {
		t.Error(e)
	}
}

// A plain Parse that the server skips leaves a name what it stood for. One of a put
// does not: a client that pipelines binds its value before it hears of the error.
func TestSkippedParseOfAName(t *testing.T) {
	for text, lost := range map[string]bool{"INSERT INTO t VALUES ($1)": false, "SELECT vault.put_secret('a', $1)": true} {
		ss := &session{}
		ss.keep(&statement{name: "s"})
		ss.queue.skipping = true
		v, err := ss.slowParse([]byte("s\x00" + text + "\x00\x00\x00"))
		if v != drop || err != nil {
			t.Errorf("%s: %v, %v", text, v, err)
		}
		if got := ss.stmts["s"]; got == nil || got.lost != lost {
			t.Errorf("%s: the name stands for %+v, want lost: %v", text, got, lost)
		}
	}
}
