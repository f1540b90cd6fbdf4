// SPDX-License-Identifier: GPL-3.0-or-later

package history

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

const (
	seeds      = 30
	operations = 1200
)

// TestModels: nothing is found in what a faultless cluster shows.
func TestModels(t *testing.T) {
	excused := 0
	for seed := range uint64(seeds) {
		m := tell(seed, operations, seed%2 == 1, seed%3 == 0)
		report := Check(m.ops, m.rules(), m.final())
		if err := report.Err(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, kind := range []Kind{Put, Create, Update, Delete, Read, Set} {
			if key := string(kind) + " ok"; report.Counts[key] == 0 {
				t.Errorf("seed %d: no %s", seed, key)
			}
		}
		excused += len(report.Excused)
	}
	if excused == 0 {
		t.Error("no failover has lost anything")
	}
}

// A mutant is a legal record made wrong in one place.
type mutant struct {
	ops   []Op
	final Final
	rng   *rand.Rand
}

// mutations are ways to do so. Each returns false if it finds no place; want is
// what must be among the findings.
var mutations = []struct {
	name string
	want []Promise
	do   func(*mutant) bool
}{
	{"a put is not in the record", []Promise{NeverPut}, (*mutant).dropPut},
	{"a put is not in the end", []Promise{LostWrite}, (*mutant).dropVersion},
	{"a description is not in the end", []Promise{LostWrite}, (*mutant).dropDescription},
	{"a deleted secret is back", []Promise{LostDelete}, (*mutant).undelete},
	{"two readers have each other's value", []Promise{NeverPut}, (*mutant).swapValues},
	{"two readings of a session are exchanged", []Promise{BackInTime, OwnWrite, NeverPut}, (*mutant).swapReads},
	{"a session reads what was before its put", []Promise{OwnWrite, BackInTime}, (*mutant).before},
	{"a version is given twice", []Promise{TwoValues}, (*mutant).again},
	{"a put that was read has failed", []Promise{NeverPut}, (*mutant).failed},
	{"another tenant", []Promise{WrongSettings}, (*mutant).tenant},
	{"no answer", []Promise{Hang}, (*mutant).hang},
}

// TestMutants: what is wrong in one place is found.
func TestMutants(t *testing.T) {
	made := map[string]int{}
	for seed := range uint64(seeds) {
		m := tell(seed, operations, seed%2 == 1, false)
		for _, mutation := range mutations {
			mutant := &mutant{ops: slices.Clone(m.ops), final: m.final(), rng: rand.New(rand.NewPCG(seed, 2))}
			if !mutation.do(mutant) {
				continue
			}
			made[mutation.name]++
			report := Check(mutant.ops, m.rules(), mutant.final)
			if !slices.ContainsFunc(report.Violations, func(v Violation) bool { return slices.Contains(mutation.want, v.Promise) }) {
				t.Errorf("seed %d: %s: got %s\nwant one of %q", seed, mutation.name, listed(report.Violations), mutation.want)
			}
		}
	}
	for _, mutation := range mutations {
		if made[mutation.name] < seeds/4 {
			t.Errorf("%s: only %d were made", mutation.name, made[mutation.name])
		}
	}
}

// pick is an operation for which ok holds, nil if there is none.
func (m *mutant) pick(ok func(*Op) bool) *Op {
	start := m.rng.IntN(len(m.ops))
	for i := range m.ops {
		if op := &m.ops[(start+i)%len(m.ops)]; op.Outcome == OK && ok(op) {
			return op
		}
	}
	return nil
}

func isPut(op *Op) bool { return op.makes() }

func isRead(op *Op) bool { return op.Kind == Read && op.Asked == 0 && !op.Missing }

// writer is who has acknowledged put a value.
func (m *mutant) writer(value string) *Op {
	return m.pick(func(op *Op) bool { return isPut(op) && op.Value == value })
}

// readPut is an acknowledged put whose value was read.
func (m *mutant) readPut() *Op {
	read := m.pick(func(op *Op) bool { return isRead(op) && m.writer(op.Value) != nil })
	if read == nil {
		return nil
	}
	return m.writer(read.Value)
}

func (m *mutant) dropPut() bool {
	put := m.readPut()
	if put == nil {
		return false
	}
	id := put.ID
	m.ops = slices.DeleteFunc(m.ops, func(op Op) bool { return op.ID == id })
	return true
}

func (m *mutant) dropVersion() bool {
	for _, name := range slices.Sorted(maps.Keys(m.final)) {
		secret := m.final[name]
		if !secret.Deleted && m.writer(secret.Values[secret.Current]) != nil {
			delete(secret.Values, secret.Current)
			secret.Current--
			m.final[name] = secret
			return true
		}
	}
	return false
}

func (m *mutant) dropDescription() bool {
	for _, name := range slices.Sorted(maps.Keys(m.final)) {
		secret := m.final[name]
		update := m.pick(func(op *Op) bool { return op.Kind == Update && op.Description == secret.Description })
		removed := update != nil && slices.ContainsFunc(m.ops, func(op Op) bool {
			return op.Kind == Delete && op.Name == name && op.Outcome != Failed && op.latest() > update.Begin
		})
		if update != nil && !removed {
			secret.Description = ""
			m.final[name] = secret
			return true
		}
	}
	return false
}

func (m *mutant) undelete() bool {
	remove := m.pick(func(op *Op) bool { return op.Kind == Delete && !op.Missing })
	if remove == nil {
		return false
	}
	put := m.pick(func(op *Op) bool { return isPut(op) && op.Name == remove.Name && op.End < remove.Begin })
	if put == nil {
		return false
	}
	m.final[put.Name].Values[put.Version] = put.Value
	return true
}

func (m *mutant) swapValues() bool {
	one := m.pick(func(op *Op) bool { return isRead(op) && m.writer(op.Value) != nil })
	if one == nil {
		return false
	}
	other := m.pick(func(op *Op) bool { return isRead(op) && op.Value != one.Value && m.writer(op.Value) != nil })
	if other == nil {
		return false
	}
	one.Value, other.Value = other.Value, one.Value
	return true
}

func (m *mutant) swapReads() bool {
	var later *Op
	first := m.pick(func(op *Op) bool {
		if !isRead(op) {
			return false
		}
		later = m.pick(func(o *Op) bool {
			return isRead(o) && o.Session == op.Session && o.Name == op.Name && o.Begin > op.End && o.Version > op.Version
		})
		return later != nil
	})
	if first == nil {
		return false
	}
	first.Value, later.Value = later.Value, first.Value
	first.Version, later.Version = later.Version, first.Version
	first.Description, later.Description = "", ""
	return true
}

func (m *mutant) before() bool {
	var read, old *Op
	m.pick(func(op *Op) bool {
		if !isPut(op) {
			return false
		}
		read = m.pick(func(o *Op) bool { return isRead(o) && o.Session == op.Session && o.Name == op.Name && o.Begin > op.End })
		old = m.pick(func(o *Op) bool { return isPut(o) && o.Name == op.Name && o.End < op.Begin && o.Version < op.Version })
		return read != nil && old != nil
	})
	if read == nil || old == nil {
		return false
	}
	read.Value, read.Version, read.Description = old.Value, old.Version, ""
	return true
}

func (m *mutant) again() bool {
	one := m.pick(isPut)
	other := m.pick(func(op *Op) bool { return isPut(op) && op.Name == one.Name && op != one })
	one.Version = other.Version
	return true
}

func (m *mutant) failed() bool {
	put := m.readPut()
	if put == nil {
		return false
	}
	put.Outcome, put.Version = Failed, 0
	return true
}

func (m *mutant) tenant() bool {
	op := m.pick(func(op *Op) bool { return op.Seen != nil })
	seen := *op.Seen
	seen.Tenant = fmt.Sprintf("not %s", seen.Tenant)
	op.Seen = &seen
	return true
}

func (m *mutant) hang() bool {
	op := m.pick(func(op *Op) bool {
		return !slices.ContainsFunc(m.ops, func(o Op) bool { return o.Session == op.Session && o.Begin > op.Begin })
	})
	if op == nil {
		return false
	}
	op.End = op.Begin + DefaultPatience
	return true
}

// BenchmarkCheck judges a million operations.
func BenchmarkCheck(b *testing.B) {
	const million = 1_000_000
	m := tell(1, million, false, true)
	final := m.final()
	for b.Loop() {
		if err := Check(m.ops, m.rules(), final).Err(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(m.ops)), "ops")
}
