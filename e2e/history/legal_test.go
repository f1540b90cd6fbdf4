// SPDX-License-Identifier: GPL-3.0-or-later

package history

import (
	"testing"
	"time"
)

// TestLegal has records in which nothing is wrong, each of which a careless
// judge would find fault with. excused is how many losses are to be reported.
func TestLegal(t *testing.T) {
	for _, test := range []struct {
		name    string
		excused int
		tell    func(*tale)
	}{
		{"nothing", 0, func(*tale) {}},
		{"all kinds", 0, func(t *tale) {
			s := Settings{Tenant: "blue", Role: "bob", SearchPath: "public"}
			t.add(1, Connect, "")
			t.set(1, s)
			t.put(1, "a", "x", 1).Seen = &s
			t.read(1, "a", "x", 1).Seen = &s
			t.put(2, "a", "y", 2)
			t.update(1, "a", "d").Seen = &s
			t.read(1, "a", "y", 2).Description = "d"
			t.ask(1, "a", 1, "x", 2).Description = "d"
			t.remove(1, "a")
			t.read(1, "a", "", 0)
			t.put(2, "a", "z", 3)
			t.read(1, "a", "z", 3)
			t.final = holding(Secret{Current: 3, Kept: true, Values: map[int]string{3: "z"}})
		}},
		{"an unknown put that happened, late", 0, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(2, "a", "y", 0).outcome(Unknown, "08006")
			t.put(1, "a", "z", 2)
			t.read(3, "a", "y", 3)
			t.final = holding(Secret{Current: 3, Values: map[int]string{3: "y"}})
		}},
		{"an unknown put that never happened", 0, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(2, "a", "y", 0).outcome(Unknown, "08006")
			t.put(1, "a", "z", 2)
			t.final = holding(Secret{Current: 2, Kept: true, Values: values("x", "z")})
		}},
		{"an unknown delete that happened, late", 0, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.remove(2, "a").outcome(Unknown, "57P01")
			t.read(1, "a", "x", 1)
			t.read(1, "a", "", 0)
			t.remove(1, "a").Missing = true
			t.final = holding(Secret{Current: 1, Deleted: true})
		}},
		{"puts at one time, in either order", 0, func(t *tale) {
			t.put(1, "a", "x", 2).during(0, 1)
			t.put(2, "a", "y", 1).during(0, 1)
			t.read(3, "a", "y", 1).during(0, 1)
		}},
		{"a delete and a put at one time", 0, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(1, "a", "y", 2).during(1, 2)
			t.remove(2, "a").during(1, 2)
			t.final = holding(Secret{Current: 2, Values: values("", "y")})
			delete(t.final["a"].Values, 1)
		}},
		{"a reader behind", 0, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(1, "a", "y", 2)
			t.read(2, "a", "", 0)
			t.read(2, "a", "x", 1)
			t.read(2, "a", "y", 2)
		}},
		{"a new session goes back", 0, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(1, "a", "y", 2)
			t.read(1, "a", "y", 2)
			t.read(2, "a", "x", 1)
		}},
		{"a superseded version that was not kept", 0, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(1, "a", "y", 2)
			t.ask(1, "a", 1, "", 2)
			t.final = holding(Secret{Current: 2, Values: map[int]string{2: "y"}})
		}},
		{"a version that another has not got yet", 0, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.ask(2, "a", 1, "", 0)
			t.final = holding(Secret{Current: 1, Kept: true, Values: values("x")})
		}},
		{"descriptions at one time", 0, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.update(1, "a", "d").during(1, 2)
			t.update(2, "a", "e").during(1, 2)
			t.read(3, "a", "x", 1).Description = "e"
			t.read(3, "a", "x", 1).Description = "d"
			t.final = holding(Secret{Current: 1, Values: values("x"), Description: "d"})
		}},
		{"a description that a deletion took away", 0, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.update(1, "a", "d")
			t.remove(2, "a")
			t.put(2, "a", "y", 2)
			t.read(1, "a", "y", 2)
			t.final = holding(Secret{Current: 2, Values: map[int]string{2: "y"}})
		}},
		{"settings after a lost SET", 0, func(t *tale) {
			t.set(1, Settings{Tenant: "blue"})
			t.set(1, Settings{Tenant: "red"}).outcome(Unknown, "08006")
			t.read(1, "a", "", 0).Seen = &Settings{Tenant: "red"}
		}},
		{"settings after a failed SET", 0, func(t *tale) {
			t.set(1, Settings{Tenant: "blue"})
			t.set(1, Settings{Tenant: "red"}).outcome(Failed, "22023")
			t.read(1, "a", "", 0).Seen = &Settings{Tenant: "blue"}
		}},
		{"a node that was cut off", 0, func(t *tale) {
			op := t.read(1, "a", "", 0).outcome(Unknown, "")
			op.End = op.Begin + time.Minute
			t.rules.Cut = []Outage{{Node: "n1", From: at(2), To: at(3)}}
		}},
		{"lost by PostgreSQL, the number given again", 1, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(1, "a", "y", 2)
			t.read(2, "a", "y", 2)
			t.put(3, "a", "z", 2).Timeline = 2
			t.read(4, "a", "z", 2)
			t.final = holding(Secret{Current: 2, Kept: true, Values: values("x", "z")})
			t.rules.Lost = []Lost{{From: at(1), To: at(2)}}
		}},
		{"lost by PostgreSQL, by position", 1, func(t *tale) {
			positioned(t.put(1, "a", "x", 1), 100)
			positioned(t.put(1, "b", "y", 1), 200)
			positioned(t.put(1, "a", "z", 2), 300)
			t.final = Final{"a": {Current: 1, Values: values("x")}, "b": {Current: 1, Values: values("y")}}
			t.rules.Lost = []Lost{{From: at(0), Timeline: 1, Fork: 310}}
		}},
		{"never acknowledged, shown where it is not replicated", 0, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.put(1, "a", "y", 0).outcome(Unknown, "57P01").Timeline = 1
			t.put(2, "a", "z", 2).Timeline = 2
			t.read(3, "a", "y", 2)
			t.final = holding(Secret{Current: 2, Kept: true, Values: values("x", "z")})
			t.rules.Lost = []Lost{{From: at(0), Timeline: 1, Unconfirmed: true}}
		}},
		{"a delete lost by PostgreSQL", 1, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.remove(1, "a")
			t.final = holding(Secret{Current: 1, Values: values("x")})
			t.rules.Lost = []Lost{{From: at(1)}}
		}},
		{"by REST no description is told", 0, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.update(1, "a", "d").REST = true
			t.read(1, "a", "x", 1).REST = true
			t.final = holding(Secret{Current: 1, Values: values("x"), Description: "d"})
		}},
		{"an own write by REST lost by PostgreSQL", 0, func(t *tale) {
			positioned(t.put(1, "a", "x", 1), 100).REST = true
			positioned(t.put(2, "a", "y", 2), 200).REST = true
			t.read(2, "a", "x", 1).REST = true
			t.rules.Lost = []Lost{{From: at(1), Timeline: 1, Fork: 150}}
		}},
		{"a description lost by PostgreSQL", 1, func(t *tale) {
			t.put(1, "a", "x", 1)
			t.update(1, "a", "d")
			t.update(1, "a", "e")
			t.final = holding(Secret{Current: 1, Values: values("x"), Description: "d"})
			t.rules.Lost = []Lost{{From: at(2)}}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var tale tale
			test.tell(&tale)
			report := tale.check()
			if err := report.Err(); err != nil {
				t.Error(err)
			}
			if got := len(report.Excused); got != test.excused {
				t.Errorf("excused: got %d, want %d\n%s", got, test.excused, listed(report.Excused))
			}
		})
	}
}
