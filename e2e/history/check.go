// SPDX-License-Identifier: GPL-3.0-or-later

package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Rules are what the cluster and the run were like.
type Rules struct {
	// Patience is the time within which each operation must be answered; 0:
	// DefaultPatience.
	Patience time.Duration `json:"patience,omitempty"`
	// Across: a client's sessions are one, each sees what those before it and
	// beside it wrote and saw. Without it, and where something was lost, each
	// session is on its own.
	Across bool `json:"across,omitempty"`
	// Lost are ranges that PostgreSQL had not replicated when a primary was
	// lost. What is gone of them is excused.
	Lost []Lost `json:"lost,omitempty"`
	// Cut are nodes that could not answer anybody: frozen, or cut off from
	// their clients. Waiting for one is no hang.
	Cut []Outage `json:"cut,omitempty"`
}

// DefaultPatience is the time after which a session counts as hung.
const DefaultPatience = 10 * time.Second

// RESTPatience is the same for a request of REST, which has 30 s in the node.
const RESTPatience = 35 * time.Second

// An Outage is the time in which a node could not answer.
type Outage struct {
	Node string        `json:"node"`
	From time.Duration `json:"from"`
	To   time.Duration `json:"to"`
}

// Final is what the primary holds by name, read after everything has healed.
// Nil: not known, and nothing is judged by it.
type Final map[string]Secret

// A Secret is what the primary holds of one name.
type Secret struct {
	// Current is the highest version number given; that of a deleted secret is
	// kept.
	Current int  `json:"current"`
	Deleted bool `json:"deleted,omitempty"`
	// Kept: versions superseded since the last creation are readable (a grace
	// period longer than the run).
	Kept bool `json:"kept,omitempty"`
	// Values are those of the readable versions.
	Values      map[int]string `json:"values,omitempty"`
	Description string         `json:"description,omitempty"`
}

// Check judges a record. The order of ops does not matter; they are not changed.
func Check(ops []Op, rules Rules, final Final) *Report {
	if rules.Patience == 0 {
		rules.Patience = DefaultPatience
	}
	c := &checker{
		rules: rules, final: final,
		secrets: map[string]*secret{}, stored: map[string]*Op{}, updates: map[string]*Op{}, astray: map[*Op]bool{},
		report: Report{Counts: map[string]int{}},
	}
	for i := range ops {
		c.ops = append(c.ops, &ops[i])
		c.report.Counts[string(ops[i].Kind)+" "+string(ops[i].Outcome)]++
	}
	slices.SortStableFunc(c.ops, func(a, b *Op) int { return cmp.Or(cmp.Compare(a.Begin, b.Begin), cmp.Compare(a.End, b.End)) })
	c.wellFormed()
	if len(c.report.Violations) > 0 {
		return &c.report // the rest would be guesses
	}
	c.lost = newLosses(c.ops, rules.Lost)
	c.index()
	c.claims()
	for _, s := range c.secrets {
		c.order(s)
	}
	c.sessions()
	if final != nil {
		c.finals()
	}
	c.report.sort()
	return &c.report
}

// A checker holds what one Check knows.
type checker struct {
	rules   Rules
	final   Final
	ops     []*Op // by Begin
	secrets map[string]*secret
	stored  map[string]*Op // puts and creates, by value
	updates map[string]*Op // by description
	lost    *losses
	// astray are reads of what was never put: nothing follows from them.
	astray map[*Op]bool
	report Report
}

func (c *checker) violate(promise Promise, name, text string, ops ...*Op) {
	c.report.Violations = append(c.report.Violations, violation(promise, name, text, ops))
}

// judge is violate, but for what PostgreSQL has lost.
func (c *checker) judge(promise Promise, name, text string, write *Op, others ...*Op) {
	ops := append([]*Op{write}, others...)
	if c.lost.covers(write) {
		c.report.Excused = append(c.report.Excused, violation(promise, name, text, ops))
		return
	}
	c.violate(promise, name, text, ops...)
}

func violation(promise Promise, name, text string, ops []*Op) Violation {
	ops = slices.DeleteFunc(ops, func(op *Op) bool { return op == nil })
	return Violation{Promise: promise, Name: name, Text: text, Ops: ops}
}

// wellFormed looks for what no cluster can be blamed for.
func (c *checker) wellFormed() {
	last := map[int]*Op{} // of each session
	for _, op := range c.ops {
		if op.End < op.Begin {
			c.violate(Malformed, op.Name, "an operation ends before it begins", op)
		}
		if before := last[op.Session]; before != nil && before.End > op.Begin {
			c.violate(Malformed, op.Name, "a session does two things at a time", before, op)
		}
		last[op.Session] = op
		if op.makes() {
			c.once(c.stored, op.Value, op)
			if op.Outcome == OK && op.Version <= 0 {
				c.violate(Malformed, op.Name, "a put has made no version", op)
			}
		}
		if op.Kind == Update {
			c.once(c.updates, op.Description, op)
		}
	}
}

func (c *checker) once(seen map[string]*Op, text string, op *Op) {
	switch before := seen[text]; {
	case text == "":
		c.violate(Malformed, op.Name, "nothing is stored", op)
	case before != nil:
		c.violate(Malformed, op.Name, "the same text is stored twice", before, op)
	}
	seen[text] = op
}

// index sorts operations by the secret that they are about.
func (c *checker) index() {
	for _, op := range c.ops {
		if op.Name == "" {
			continue
		}
		s := c.secret(op.Name)
		switch {
		case op.makes() && op.Outcome != Failed:
			s.puts = append(s.puts, op)
			if op.Outcome == OK {
				s.numbers[op] = op.Version
			}
		case op.Kind == Update && op.Outcome == OK:
			s.updates = append(s.updates, op)
		case op.Kind == Delete && op.Outcome == OK:
			s.deletes = append(s.deletes, op)
		case op.Kind == Read && op.Outcome == OK && !op.Missing:
			s.reads = append(s.reads, op)
		}
		if op.Kind == Delete && op.Outcome != Failed && !op.Missing {
			s.removals.add(op)
		}
	}
	for name := range c.final {
		c.secret(name)
	}
}

func (c *checker) secret(name string) *secret {
	s := c.secrets[name]
	if s == nil {
		s = &secret{
			name: name, kept: c.final[name].Kept,
			numbers: map[*Op]int{}, holders: map[int]*Op{}, since: map[int]time.Duration{}, before: map[*Op]*Op{},
		}
		c.secrets[name] = s
	}
	return s
}

// hangs looks at one operation's duration.
func (c *checker) hangs(op *Op) {
	patience := c.rules.Patience
	if op.REST {
		patience = max(patience, RESTPatience)
	}
	if op.End-op.Begin < patience {
		return
	}
	for _, cut := range c.rules.Cut {
		if cut.Node == op.Node && cut.From <= op.End && cut.To >= op.Begin {
			return
		}
	}
	c.violate(Hang, op.Name, fmt.Sprintf("no answer for %s", stamp(op.End-op.Begin)), op)
}
