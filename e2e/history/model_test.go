// SPDX-License-Identifier: GPL-3.0-or-later

package history

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// A model is a cluster that keeps all promises, as simple as can be: a primary
// where writes take effect one after the other, and standbys that show what it
// was a moment ago. Its clients' record is legal by construction.
type model struct {
	rng    *rand.Rand
	now    time.Duration
	queue  []event // by time
	ops    []Op
	limit  int // of operations
	number int // of texts and sessions

	names    map[string]*register
	replayed []time.Duration // by node; the primary is the first
	across   bool

	// A failover ends an epoch, with all sessions and what is under way.
	epoch int
	lost  []Lost
}

// A register is a secret through time.
type register struct {
	states []state
	values map[int]string
}

// A state is a secret from some time on.
type state struct {
	from        time.Duration
	current     int
	first       int // version since it was created
	alive       bool
	description string
}

type event struct {
	at time.Duration
	do func()
}

// A person is a client of the model with its session.
type person struct {
	id, session, node, epoch int
	// position is the time of the state that it saw last.
	position time.Duration
	settings *Settings
}

const (
	people   = 10
	nodes    = 3
	failover = 300 * time.Millisecond
	unsent   = 30 * time.Millisecond // what a failover loses
)

// tell runs a model up to a number of operations.
func tell(seed uint64, operations int, across, failing bool) *model {
	m := &model{
		rng: rand.New(rand.NewPCG(seed, 1)), limit: operations, across: across,
		names: map[string]*register{}, replayed: make([]time.Duration, nodes), epoch: 1,
	}
	for i := range 4 {
		m.names[fmt.Sprintf("s%d", i)] = &register{states: []state{{}}, values: map[int]string{}}
	}
	for i := range people {
		p := &person{id: i, node: i % nodes}
		m.connect(p)
	}
	if failing {
		m.schedule(failover, m.fail)
	}
	for len(m.queue) > 0 {
		next := m.queue[0]
		m.queue = m.queue[1:]
		m.now = next.at
		next.do()
	}
	return m
}

func (m *model) schedule(at time.Duration, do func()) {
	i, _ := slices.BinarySearchFunc(m.queue, at, func(e event, at time.Duration) int {
		return cmp.Or(cmp.Compare(e.at, at), -1) // behind those of the same time
	})
	m.queue = slices.Insert(m.queue, i, event{at, do})
}

// soon is a time from now.
func (m *model) soon() time.Duration {
	return m.now + 1 + time.Duration(m.rng.Int64N(int64(3*time.Millisecond)))
}

func (m *model) once(what string) string {
	m.number++
	return fmt.Sprintf("%s-%d", what, m.number)
}

// connect begins a session, with a Set.
func (m *model) connect(p *person) {
	m.number++
	p.session, p.epoch, p.settings = m.number, m.epoch, nil
	if !m.across {
		p.position = 0
	}
	m.begin(p, m.op(p, Set))
}

func (m *model) op(p *person, kind Kind) *Op {
	return &Op{Client: p.id, Node: fmt.Sprintf("n%d", p.node+1), Session: p.session, Kind: kind, Begin: m.soon(), Outcome: OK}
}

// next lets a client do something.
func (m *model) next(p *person) {
	kinds := []Kind{Read, Read, Read, Read, Read, Read, Read, Read, Put, Put, Put, Put, Update, Update, Set, Create, Delete}
	op := m.op(p, kinds[m.rng.IntN(len(kinds))])
	if op.Kind != Set {
		op.Name = fmt.Sprintf("s%d", m.rng.IntN(len(m.names)))
	}
	m.begin(p, op)
}

// begin lets an operation take effect some time after its beginning, or makes it
// one whose client never learns.
func (m *model) begin(p *person, op *Op) {
	if len(m.ops) >= m.limit {
		return
	}
	switch op.Kind {
	case Set:
		op.Set = &Settings{Tenant: m.once("tenant"), Role: "none", SearchPath: "public"}
	case Put, Create:
		op.Value = m.once("value")
	case Update:
		op.Description = m.once("description")
	case Connect, Delete, Read:
	}
	effect := op.Begin + m.soon() - m.now
	if m.rng.IntN(40) == 0 {
		m.forsake(p, op, effect)
		return
	}
	m.schedule(effect, func() {
		switch {
		case p.epoch != m.epoch:
			op.Outcome, op.SQLSTATE = Unknown, "57P01"
		case m.rng.IntN(50) == 0:
			op.Outcome, op.SQLSTATE = Failed, "40001"
		default:
			m.perform(p, op)
		}
		m.end(p, op)
	})
}

// forsake loses a connection; its statement may have an effect, even later.
func (m *model) forsake(p *person, op *Op, effect time.Duration) {
	op.Outcome, op.SQLSTATE = Unknown, "08006"
	if m.rng.IntN(2) == 0 {
		late, epoch := effect+time.Duration(m.rng.IntN(2))*20*time.Millisecond, m.epoch
		ghost, shadow := *p, *op
		m.schedule(late, func() {
			if epoch == m.epoch {
				m.perform(&ghost, &shadow)
			}
		})
	}
	m.schedule(effect, func() { m.end(p, op) })
}

// end writes an operation down.
func (m *model) end(p *person, op *Op) {
	op.End = m.soon()
	if op.Outcome == OK && op.Kind != Set {
		op.Seen = p.settings
	}
	op.ID = len(m.ops) + 1
	m.ops = append(m.ops, *op)
	m.schedule(op.End, func() {
		if op.Outcome == Unknown || p.epoch != m.epoch || m.rng.IntN(60) == 0 {
			m.connect(p)
			return
		}
		m.next(p)
	})
}

// perform has an operation's effect.
func (m *model) perform(p *person, op *Op) {
	if op.Kind == Set {
		p.settings = op.Set
		return
	}
	r := m.names[op.Name]
	if op.Kind == Read {
		m.read(p, r, op)
		return
	}
	s := r.states[len(r.states)-1]
	fail := func(state string) { op.Outcome, op.SQLSTATE, op.Timeline, op.LSN = Failed, state, 0, 0 }
	s.from, p.position = m.now, m.now
	op.Timeline, op.LSN = m.epoch, uint64(m.now)
	switch {
	case op.Kind == Create && s.alive:
		fail("42710")
		return
	case op.Kind == Update && !s.alive:
		fail("P0002")
		return
	case op.Kind == Delete:
		op.Missing = !s.alive
		s.alive, s.description = false, ""
	case op.Kind == Update:
		s.description = op.Description
	default:
		s.current++
		if m.rng.IntN(30) == 0 {
			s.current++ // a gap
		}
		if !s.alive {
			s.alive, s.first = true, s.current
		}
		op.Version = s.current
		r.values[s.current] = op.Value
	}
	r.states = append(r.states, s)
}

// read shows the state of a moment ago, or that which its session knows.
func (m *model) read(p *person, r *register, op *Op) {
	at := m.now
	if p.node > 0 {
		lagging := m.now - time.Duration(m.rng.IntN(20))*time.Millisecond
		m.replayed[p.node] = max(m.replayed[p.node], lagging)
		at = max(m.replayed[p.node], p.position)
	}
	p.position = at
	i, _ := slices.BinarySearchFunc(r.states, at, func(s state, at time.Duration) int {
		return cmp.Or(cmp.Compare(s.from, at), -1)
	})
	s := r.states[i-1]
	asked := s.current
	if m.rng.IntN(4) == 0 {
		op.Asked = 1 + m.rng.IntN(s.current+1)
		asked = op.Asked
	}
	if s.alive {
		op.Version, op.Description = s.current, s.description
	}
	if s.alive && s.first <= asked && asked <= s.current {
		op.Value = r.values[asked]
	}
	op.Missing = op.Value == ""
}

// fail loses the primary and what it had not sent.
func (m *model) fail() {
	fork := m.now - unsent
	m.epoch++
	m.lost = append(m.lost, Lost{From: fork, To: m.now, Timeline: 1, Fork: uint64(fork)})
	for _, r := range m.names {
		r.states = slices.DeleteFunc(r.states, func(s state) bool { return s.from > fork })
		last := r.states[len(r.states)-1].current
		for version := range r.values {
			if version > last {
				delete(r.values, version)
			}
		}
	}
}

// final is what the primary holds in the end.
func (m *model) final() Final {
	final := Final{}
	for name, r := range m.names {
		s := r.states[len(r.states)-1]
		secret := Secret{Current: s.current, Deleted: !s.alive, Kept: true, Values: map[int]string{}, Description: s.description}
		for version, value := range r.values {
			if s.alive && version >= s.first {
				secret.Values[version] = value
			}
		}
		final[name] = secret
	}
	return final
}

func (m *model) rules() Rules { return Rules{Across: m.across, Lost: m.lost} }
