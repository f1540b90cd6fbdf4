// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"slices"
	"testing"
)

func kinds(q *replyQueue) []owedKind {
	var ks []owedKind
	for i := range q.n {
		ks = append(ks, q.at(i).kind)
	}
	return ks
}

func queueOf(ks ...owedKind) *replyQueue {
	q := &replyQueue{}
	for _, k := range ks {
		q.push(owed{kind: k})
	}
	return q
}

func TestQueueKeepsOrderAcrossGrowth(t *testing.T) {
	q := &replyQueue{}
	next := 0
	for i := range 1000 {
		q.push(owed{kind: oweExecute, prev: &statement{own: i}})
		if i%3 == 0 {
			if got := q.pop().prev.own; got != next {
				t.Fatalf("popped %d, want %d", got, next)
			}
			next++
		}
	}
	for q.len() > 0 {
		if got := q.pop().prev.own; got != next {
			t.Fatalf("popped %d, want %d", got, next)
		}
		next++
	}
	if next != 1000 {
		t.Errorf("%d entries came back", next)
	}
}

func TestSkipStopsAtSync(t *testing.T) {
	for name, c := range map[string]struct {
		in, left []owedKind
		skipping bool
		ends     int
	}{
		"to the next Sync":            {in: []owedKind{oweParse, oweBind, oweExecute, oweSync, oweParse}, left: []owedKind{oweSync, oweParse}, ends: 1},
		"Sync not sent yet":           {in: []owedKind{oweParse, oweBind}, skipping: true},
		"a Query in the middle drops": {in: []owedKind{oweBind, oweQuery, oweSync}, left: []owedKind{oweSync}, ends: 1},
	} {
		t.Run(name, func(t *testing.T) {
			q := queueOf(c.in...)
			undone := 0
			q.skip(func(*owed) { undone++ })
			if got := kinds(q); !slices.Equal(got, c.left) {
				t.Errorf("left %v, want %v", got, c.left)
			}
			if undone != len(c.in)-len(c.left) {
				t.Errorf("%d undone", undone)
			}
			if q.skipping != c.skipping || q.ends != c.ends {
				t.Errorf("skipping %v, ends %d", q.skipping, q.ends)
			}
		})
	}
}

func TestWhileSkippingOnlySyncIsOwed(t *testing.T) {
	q := queueOf(oweParse)
	q.skip(func(*owed) {})
	for _, k := range []owedKind{oweParse, oweQuery, oweCall, oweExecute} {
		q.push(owed{kind: k})
	}
	if q.len() != 0 {
		t.Fatalf("the server drops these, yet %v are owed", kinds(q))
	}
	q.push(owed{kind: oweSync})
	q.push(owed{kind: oweQuery})
	if got, want := kinds(q), []owedKind{oweSync, oweQuery}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestSyncsBeforeCopyDataAreEaten(t *testing.T) {
	for _, failed := range []bool{false, true} {
		q := queueOf(oweSync, oweCopy, oweSync)
		q.at(1).copyEnd = true
		q.eatCopy(failed)
		if got, want := kinds(q), []owedKind{oweSync}; !slices.Equal(got, want) {
			t.Errorf("failed %v: got %v, want %v: only the Sync behind the data is answered", failed, got, want)
		}
	}
	q := queueOf(oweSync, oweCopy, oweSync, oweCopy, oweSync)
	q.at(3).copyEnd = true
	q.eatCopy(false)
	if got, want := kinds(q), []owedKind{oweSync}; !slices.Equal(got, want) {
		t.Errorf("Syncs between data: got %v, want %v", got, want)
	}
}

func TestUndoTakesTheNameBack(t *testing.T) {
	old, failed := &statement{name: "s"}, &statement{name: "s"}
	ss := &session{}
	ss.stmts = map[string]*statement{"s": failed}
	ss.undo(&owed{kind: oweParse, named: true, stmt: failed, prev: old})
	if ss.stmts["s"] != old {
		t.Error("the name does not stand for the older statement again")
	}
	newer := &statement{name: "s"}
	ss.stmts["s"] = newer
	ss.undo(&owed{kind: oweParse, named: true, stmt: failed, prev: old})
	if ss.stmts["s"] != newer {
		t.Error("a later Parse of the name was undone too")
	}
}

// A name that was used again behind the Sync, before the error was known, goes
// back to what the server still has when that use fails too: a put, whose value
// would else be bound in clear.
func TestUndoAcrossSyncs(t *testing.T) {
	put := &statement{name: "s", plan: putPlan(t)}
	first, second := &statement{name: "s"}, &statement{name: "s"}
	ss := &session{}
	ss.stmts = map[string]*statement{"s": second}
	for _, e := range []owed{
		{kind: oweParse},
		{kind: oweClose, named: true, prev: put},
		{kind: oweParse, named: true, stmt: first},
		{kind: oweSync},
		{kind: oweParse, named: true, stmt: second, prev: first},
		{kind: oweSync},
	} {
		ss.queue.push(e)
	}
	ss.queue.skip(ss.undo)
	if ss.stmts["s"] != second {
		t.Fatal("the Parse behind the Sync was undone too")
	}
	ss.queue.pop() // the Sync
	ss.queue.skip(ss.undo)
	if ss.stmts["s"] != put {
		t.Errorf("the name stands for %+v, want the put", ss.stmts["s"])
	}
}

// A Close behind the Sync takes away what the name stands for again.
func TestUndoBeforeALaterClose(t *testing.T) {
	old, skipped := &statement{name: "s"}, &statement{name: "s"}
	ss := &session{}
	for _, e := range []owed{
		{kind: oweParse},
		{kind: oweClose, named: true, prev: old},
		{kind: oweParse, named: true, stmt: skipped},
		{kind: oweSync},
		{kind: oweClose, named: true, prev: skipped},
		{kind: oweSync},
	} {
		ss.queue.push(e)
	}
	ss.queue.skip(ss.undo)
	if got := ss.stmts["s"]; got != nil {
		t.Errorf("the name stands for %+v, which the later Close closes", got)
	}
	ss.queue.pop() // the Sync
	if e := ss.queue.front(); e.prev != old {
		t.Errorf("the Close is of %+v, want the statement from before", e.prev)
	}
	ss.queue.skip(ss.undo) // if that is skipped too
	if ss.stmts["s"] != old {
		t.Error("the name does not stand for the statement from before again")
	}
}

// The unnamed statement of a plain text has no object: only the queue tells that
// there is a later one.
func TestUndoOfUnnamedAcrossSyncs(t *testing.T) {
	put := &statement{plan: putPlan(t)}
	ss := &session{}
	for _, e := range []owed{{kind: oweParse, prev: put}, {kind: oweSync}, {kind: oweParse}, {kind: oweSync}} {
		ss.queue.push(e)
	}
	ss.queue.skip(ss.undo)
	if ss.unnamedStmt != nil {
		t.Fatal("the later statement was replaced by the older one")
	}
	ss.queue.pop() // the Sync
	ss.queue.skip(ss.undo)
	if ss.unnamedStmt != put {
		t.Error("the unnamed statement is not the older one again")
	}
}

// A client that pipelines binds before it hears of the error: its value must
// not be bound to what the name stood for before.
func TestASkippedPutIsLost(t *testing.T) {
	put := &statement{name: "", lost: false, plan: putPlan(t), values: [][]byte{[]byte("canary")}}
	plain := (*statement)(nil)
	ss := &session{}
	ss.unnamedStmt = put
	value := put.values[0]
	ss.undo(&owed{kind: oweParse, stmt: put, prev: plain})
	if !ss.unnamedStmt.puts() || !ss.unnamedStmt.lost {
		t.Error("a Bind of the skipped put would pass in clear")
	}
	if string(value) == "canary" {
		t.Error("the literal value was not zeroed")
	}
}

// A long pipeline must not keep its memory for the life of the session; and what
// is owed stays in order whatever the queue's parts are.
func TestReplyQueueIsLong(t *testing.T) {
	var q replyQueue
	tasks := make([]task, 10*maxRing)
	next, first := 0, 0
	push := func(n int) {
		for range n {
			q.push(owed{kind: oweSync, task: &tasks[next%len(tasks)]})
			next++
		}
	}
	pop := func(n int) {
		for range n {
			if got := q.pop(); got.task != &tasks[first%len(tasks)] {
				t.Fatalf("entry %d is another one", first)
			}
			first++
		}
	}
	for i := range 60 {
		push(1 + i*97%(3*maxRing))
		for j := 0; j < q.len(); j += 101 {
			if q.at(j).task != &tasks[(first+j)%len(tasks)] {
				t.Fatalf("place %d of %d holds another one", j, q.len())
			}
		}
		pop(1 + i*61%q.len())
	}
	pop(q.len())
	if q.ends != 0 || len(q.ring) > maxRing || q.more != nil {
		t.Errorf("empty, it counts %d ends and keeps a ring of %d and %d chunks", q.ends, len(q.ring), len(q.more))
	}
}
