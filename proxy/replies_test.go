// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"slices"
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
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

func TestSyncsAmongCopyDataAreEaten(t *testing.T) {
	const s, d, p = oweSync, oweCopy, oweParse
	for name, c := range map[string]struct {
		in     []owedKind
		end    int // where the client has ended the data; 0: nowhere
		failed bool
		ends   int // how many Syncs are answered
		spare  int // how many others may be
	}{
		"in front of the data":     {in: []owedKind{s, d, s}, end: 1, ends: 1},
		"between":                  {in: []owedKind{s, d, s, d, s}, end: 3, ends: 1},
		"failed":                   {in: []owedKind{s, d, s}, end: 1, failed: true, ends: 1, spare: 1},
		"failed, no end yet":       {in: []owedKind{s, d, s}, failed: true, ends: 1, spare: 1},
		"failed before any data":   {in: []owedKind{s}, failed: true, ends: 1},
		"failed before a Parse":    {in: []owedKind{s, p, s}, failed: true, ends: 2},
		"failed in front of Syncs": {in: []owedKind{s, d, s, p, s}, failed: true, ends: 2, spare: 1},
	} {
		t.Run(name, func(t *testing.T) {
			for from := range 2 {
				q := queueOf(append([]owedKind{oweQuery}[:from:from], c.in...)...)
				if c.end > 0 {
					q.at(from + c.end).ends = 1
				}
				if doubt := q.eatCopy(from, c.failed); doubt != (c.spare > 0) {
					t.Errorf("doubt: %v", doubt)
				}
				if q.ends != from+c.ends || q.spare != c.spare {
					t.Errorf("%d answered, %d spare: want %d, %d", q.ends-from, q.spare, c.ends, c.spare)
				}
			}
		})
	}
}

// Each copy of a string takes its own end.
func TestEachCopyHasItsEnd(t *testing.T) {
	q := queueOf(oweQuery, oweCopy, oweSync)
	q.at(1).ends = 2
	q.eatCopy(1, false)
	q.eatCopy(1, false)
	if q.ends != 2 {
		t.Errorf("%d answered, want 2", q.ends)
	}
}

func TestStep(t *testing.T) {
	for name, c := range map[string]struct {
		owes  []owedKind
		spare int
		comes string // the messages' types
		want  bool
	}{
		"in order":                {[]owedKind{oweParse, oweSync}, 0, "1", true},
		"nothing owed":            {nil, 0, "1", false},
		"another message's":       {[]owedKind{oweSync}, 0, "1", false},
		"a row of no Execute":     {[]owedKind{oweDescribePortal, oweExecute}, 0, "D", false},
		"a row's shape":           {[]owedKind{oweExecute}, 0, "T", false},
		"Ready for nothing":       {nil, 0, "Z", true},
		"Ready of a Sync":         {[]owedKind{oweSync}, 0, "Z", true},
		"Ready of a Query":        {[]owedKind{oweQuery}, 0, "CZ", true},
		"Ready of a failed Query": {[]owedKind{oweQuery}, 0, "EZ", true},
		"Ready of no Query":       {[]owedKind{oweQuery}, 0, "Z", false},
		"Ready of a Parse":        {[]owedKind{oweParse}, 0, "Z", false},
		"spare":                   {[]owedKind{oweParse}, 2, "ZZ1", true},
		"none to spare":           {[]owedKind{oweParse}, 1, "ZZ", false},
		"spare no more":           {[]owedKind{oweParse, oweParse}, 1, "1Z", false},
		"at any time":             {[]owedKind{oweParse}, 0, "NAS", true},
	} {
		t.Run(name, func(t *testing.T) {
			ss := &session{}
			ss.queue = *queueOf(c.owes...)
			ss.queue.spare = c.spare
			for _, typ := range []byte(c.comes) {
				ss.step(typ, []byte{wire.Idle})
				if typ == wire.ParseComplete && ss.queue.n > 1 {
					ss.queue.pop()
				}
			}
			if ok := ss.fatal == nil; ok != c.want {
				t.Errorf("in step: %v, want %v", ok, c.want)
			}
		})
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

// The unnamed portal that a later batch has bound is not the one that an earlier batch
// could not.
func TestUndoOfUnnamedPortal(t *testing.T) {
	st := &statement{}
	ss := &session{}
	for _, e := range []owed{{kind: oweBind}, {kind: oweSync}, {kind: oweBind}, {kind: oweSync}} {
		ss.queue.push(e)
	}
	ss.unnamedPortal = portal{stmt: st}
	ss.queue.skip(ss.undo)
	if ss.unnamedPortal.stmt != st {
		t.Fatal("the later portal was undone too")
	}
	ss.queue.pop() // the Sync
	ss.queue.skip(ss.undo)
	if ss.unnamedPortal.stmt != nil {
		t.Error("the portal is there although its Bind was skipped")
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
