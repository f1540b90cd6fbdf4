// SPDX-License-Identifier: GPL-3.0-or-later

package history

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestViolations has a record for each way to break a promise; want is all that
// Check may find.
func TestViolations(t *testing.T) {
	for _, test := range []struct {
		name string
		want Promise
		tell func(*tale)
	}{
		{"acknowledged, gone in the end", LostWrite, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(1, "a", "y", 2)
			t.final = holding(Secret{Current: 1, Values: values("x")})
		}},
		{"acknowledged, the secret is not there", LostWrite, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.final = Final{}
		}},
		{"acknowledged, current and unreadable", LostWrite, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.final = holding(Secret{Current: 1})
		}},
		{"acknowledged, skipped by those that were kept", LostWrite, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(1, "a", "y", 2)
			t.put(1, "a", "z", 3)
			t.final = holding(Secret{Current: 3, Kept: true, Values: map[int]string{1: "x", 3: "z"}})
		}},
		{"acknowledged, deleted by nobody", LostWrite, func(t *tale) {
			t.remove(1, "a").Missing = true
			t.put(1, "a", "x", 1)
			t.remove(1, "a").outcome(Failed, "42501")
			t.final = holding(Secret{Current: 1, Deleted: true})
		}},
		{"a delete does not find what was acknowledged", LostWrite, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.remove(2, "a").Missing = true
		}},
		{"an acknowledged description is gone", LostWrite, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.update(1, "a", "first")
			t.update(1, "a", "second")
			t.final = holding(Secret{Current: 1, Values: values("x"), Description: "first"})
		}},
		{"no description in the end", LostWrite, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.update(1, "a", "first")
			t.final = holding(Secret{Current: 1, Values: values("x")})
		}},
		{"outside of what may be lost: time", LostWrite, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.final = Final{}
			t.rules.Lost = []Lost{{From: at(5), To: at(6)}}
		}},
		{"outside of what may be lost: timeline", LostWrite, func(t *tale) {
			t.put(1, "a", "x", 1).Timeline = 2
			t.final = Final{}
			t.rules.Lost = []Lost{{From: at(0), Timeline: 1}}
		}},
		{"outside of what may be lost: position", LostWrite, func(t *tale) {
			positioned(t.put(1, "a", "x", 1), 100)
			positioned(t.put(1, "b", "y", 1), 200)
			t.final = Final{"b": {Current: 1, Values: values("y")}}
			t.rules.Lost = []Lost{{From: at(0), Timeline: 1, Fork: 250}}
		}},
		{"outside of what may be lost: acknowledged", LostWrite, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.final = Final{}
			t.rules.Lost = []Lost{{From: at(0), Unconfirmed: true}}
		}},
		{"deleted, there in the end", LostDelete, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.remove(1, "a")
			t.final = holding(Secret{Current: 1, Values: values("x")})
		}},
		{"one version twice", TwoValues, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(2, "a", "y", 1)
		}},
		{"one version twice, as a reader sees it", TwoValues, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(2, "a", "y", 0).outcome(Unknown, "")
			t.read(3, "a", "y", 1)
		}},
		{"one version twice, as it is in the end", TwoValues, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(2, "a", "y", 0).outcome(Unknown, "")
			t.final = holding(Secret{Current: 1, Values: values("y")})
		}},
		{"versions fall", VersionOrder, func(t *tale) {
			t.put(1, "a", "x", 2)
			t.put(2, "a", "y", 1)
		}},
		{"a version below one that was read", VersionOrder, func(t *tale) {
			t.put(1, "a", "x", 0).outcome(Unknown, "")
			t.read(2, "a", "x", 7)
			t.put(3, "a", "y", 3)
		}},
		{"numbers begin anew after a deletion", VersionOrder, func(t *tale) {
			t.put(1, "a", "x", 2)
			t.remove(1, "a")
			t.put(2, "a", "y", 1)
		}},
		{"a version above the current one", VersionOrder, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(1, "a", "y", 2)
			t.ask(2, "a", 2, "y", 1)
		}},
		{"a value out of nowhere", NeverPut, func(t *tale) { t.read(1, "a", "x", 1) }},
		{"a value out of nowhere in the end", NeverPut, func(t *tale) { t.final = holding(Secret{Current: 1, Values: values("x")}) }},
		{"another name's value", NeverPut, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(1, "b", "y", 1)
			t.read(2, "b", "x", 1)
		}},
		{"another version's value", NeverPut, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(1, "a", "y", 2)
			t.ask(2, "a", 1, "y", 2)
		}},
		{"a failed put's value", NeverPut, func(t *tale) {
			t.put(1, "a", "x", 0).outcome(Failed, "40001")
			t.read(2, "a", "x", 1)
		}},
		{"a value before it was put", NeverPut, func(t *tale) {
			t.read(2, "a", "x", 1)
			t.put(1, "a", "x", 1)
		}},
		{"one value under two versions", NeverPut, func(t *tale) {
			t.put(1, "a", "x", 0).outcome(Unknown, "")
			t.read(2, "a", "x", 3)
			t.read(3, "a", "x", 4)
		}},
		{"a description out of nowhere", NeverPut, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.read(2, "a", "x", 1).Description = "d"
		}},
		{"an own put is not read", OwnWrite, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(2, "a", "y", 2)
			t.read(2, "a", "x", 1)
		}},
		{"an own put is not read, by REST", OwnWrite, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(2, "a", "y", 2).REST = true
			t.read(2, "a", "x", 1).REST = true
		}},
		{"an own put that another timeline has kept is not read, by REST", OwnWrite, func(t *tale) {
			positioned(t.put(1, "a", "x", 1), 100)
			positioned(t.put(2, "a", "y", 2), 200).REST = true
			positioned(t.put(3, "b", "z", 1), 300)
			t.read(2, "a", "x", 1).REST = true
			t.rules.Lost = []Lost{{From: at(0), Timeline: 1, Fork: 400}}
		}},
		{"an own first put is not read", OwnWrite, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.read(1, "a", "", 0)
		}},
		{"an own put is not read by its number", OwnWrite, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.ask(1, "a", 1, "", 0)
			t.final = holding(Secret{Current: 1, Kept: true, Values: values("x")})
		}},
		{"an own delete is not seen", OwnWrite, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.remove(2, "a")
			t.read(2, "a", "x", 1)
		}},
		{"an own description is not read", OwnWrite, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.update(1, "a", "first")
			t.update(2, "a", "second")
			t.read(2, "a", "x", 1).Description = "first"
		}},
		{"a client's write in another session, across", OwnWrite, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.read(2, "a", "", 0)
			t.rules.Across = true
		}},
		{"an older version", BackInTime, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(1, "a", "y", 2)
			t.read(2, "a", "y", 2)
			t.read(2, "a", "x", 1)
		}},
		{"nothing after something", BackInTime, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.read(2, "a", "x", 1)
			t.read(2, "a", "", 0)
		}},
		{"nothing after something that was put after the deletion", BackInTime, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.remove(1, "a")
			t.put(1, "a", "y", 2)
			t.read(2, "a", "y", 2)
			t.read(2, "a", "", 0)
		}},
		{"something deleted after nothing", BackInTime, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.read(2, "a", "x", 1)
			t.remove(1, "a")
			t.read(2, "a", "", 0)
			t.read(2, "a", "x", 1)
		}},
		{"an older description", BackInTime, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.update(1, "a", "first")
			t.update(1, "a", "second")
			t.read(2, "a", "x", 1).Description = "second"
			t.read(2, "a", "x", 1).Description = "first"
		}},
		{"another tenant", WrongSettings, func(t *tale) {
			t.set(1, Settings{Tenant: "blue", Role: "none", SearchPath: "public"})
			t.put(1, "a", "x", 1).Seen = &Settings{Tenant: "red", Role: "none", SearchPath: "public"}
		}},
		{"another role", WrongSettings, func(t *tale) {
			t.set(1, Settings{Role: "bob"})
			t.put(1, "a", "x", 1).Seen = &Settings{Role: "none"}
		}},
		{"an earlier search path", WrongSettings, func(t *tale) {
			t.set(1, Settings{SearchPath: "one"})
			t.set(1, Settings{SearchPath: "two"})
			t.read(1, "a", "", 0).Seen = &Settings{SearchPath: "one"}
		}},
		{"no answer", Hang, func(t *tale) {
			op := t.read(1, "a", "", 0).outcome(Unknown, "")
			op.End = op.Begin + DefaultPatience
		}},
		{"no answer at log-in, another node was cut off", Hang, func(t *tale) {
			op := t.add(1, Connect, "").outcome(Failed, "")
			op.End = op.Begin + DefaultPatience
			t.rules.Cut = []Outage{{Node: "n2", From: 0, To: time.Minute}}
		}},
		{"two things at a time", Malformed, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(1, "a", "y", 2).during(0, 1)
		}},
		{"a value stored twice", Malformed, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(1, "a", "x", 2)
		}},
		{"an end before its beginning", Malformed, func(t *tale) { t.put(1, "a", "x", 1).End = -1 }},
		{"a put without a version", Malformed, func(t *tale) { t.put(1, "a", "x", 0) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			var tale tale
			test.tell(&tale)
			report := tale.check()
			if len(report.Violations) != 1 || report.Violations[0].Promise != test.want {
				t.Errorf("got %s\nwant one %s", report, test.want)
			}
			if len(report.Excused) != 0 {
				t.Errorf("excused: got %s, want nothing", listed(report.Excused))
			}
		})
	}
}

func positioned(op *Op, lsn uint64) *Op {
	op.Timeline, op.LSN = 1, lsn
	return op
}

// TestReport reads a report as whoever has to find the fault does.
func TestReport(t *testing.T) {
	var tale tale
	tale.put(11, "a", "x", 1)
	tale.put(11, "a", "y", 0).outcome(Unknown, "57P01")
	tale.read(21, "a", "q", 2)
	report := tale.check()
	text := report.String()
	for _, part := range []string{
		"put ok: 1\n", "put unknown: 1\n", "read ok: 1\n", "1 violations\n",
		"NEVER PUT: a: version 2 is \"q\" to a reader: nobody has stored that\n",
		"#3 [0.020s, 0.028s] client 2 session 21 at n1: read a -> ok \"q\", current 2",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("got %s\nwant in it %q", text, part)
		}
	}
}

// TestOrderOfOps: the same is found whatever order the operations come in.
func TestOrderOfOps(t *testing.T) {
	var tale tale
	tale.put(1, "a", "x", 1)
	tale.put(1, "a", "y", 2)
	tale.read(2, "a", "y", 2)
	tale.read(2, "a", "x", 1)
	want := tale.check().String()
	slices.Reverse(tale.ops)
	if got := tale.check().String(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
