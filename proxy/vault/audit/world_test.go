// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"
	"time"
)

// world is what clients and the vault saw of a node's spools, one after the other,
// and so what a chain must hold.
type world struct {
	mode    Sync
	acked   map[string]bool // by the secret's name; true: durable for sure
	known   map[uint64]Row  // what the vault has
	mark    Position
	heads   []Head
	trust   Trust
	appends int
}

func newWorld(mode Sync) *world {
	return &world{mode: mode, acked: map[string]bool{}, known: map[uint64]Row{}, trust: Trust{}}
}

func (w *world) clone() *world {
	c := *w
	c.acked, c.known, c.heads, c.trust = maps.Clone(w.acked), maps.Clone(w.known), slices.Clone(w.heads), maps.Clone(w.trust)
	return &c
}

const testRoot = "/node"

func (w *world) options(sys system) Options {
	return Options{Sync: w.mode, SegmentBytes: 2 << 10, Keep: 15 * time.Second, sys: sys}
}

func (w *world) open(sys system) (*Spool, error) {
	s, err := Open(testRoot, w.options(sys))
	if err == nil {
		node, key, _ := s.Identity()
		w.trust[node] = []Fingerprint{key}
	}
	return s, err
}

func read(secret string) Record {
	return Record{
		Actor: "app", SessionRole: "app", Face: FaceSQL, Database: "app", Action: ActionRead, Secret: secret, Version: 1, Outcome: OutcomeOK,
	}
}

// append appends n records under names of their own.
func (w *world) append(s *Spool, n int) error {
	records := make([]Record, n)
	for i := range records {
		w.appends++
		records[i] = read(fmt.Sprintf("s/%d", w.appends))
	}
	wrong := Record{Face: FaceSQL}
	if err := s.Append(context.Background(), []Record{read("nothing"), wrong}); err == nil {
		return errors.New("half of a buffer was taken")
	}
	err := s.Append(context.Background(), records)
	if err == nil {
		for _, r := range records {
			w.acked[r.Secret] = w.mode == SyncAlways
		}
	}
	return err
}

// settle waits until everything is durable.
func settle(s *Spool) error {
	s.turn <- struct{}{}
	r := s.round
	<-s.turn
	poke(s.hurry)
	<-r.done
	return r.err
}

func (w *world) settle(s *Spool) error {
	before := maps.Clone(w.acked)
	err := settle(s)
	if err == nil {
		for name := range before {
			w.acked[name] = true
		}
	}
	return err
}

// ship takes over what is durable.
func (w *world) ship(s *Spool) error {
	c, err := s.Cursor(w.mark)
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		b, err := c.Next(40)
		if err != nil {
			return err
		}
		if b.N == 0 {
			return nil
		}
		rows, err := b.Rows()
		if err != nil {
			return err
		}
		for _, r := range rows {
			if old, ok := w.known[r.Seq]; ok && old.Hash != r.Hash {
				return fmt.Errorf("record %d was shipped as %v and is now %v", r.Seq, old, r)
			}
			w.known[r.Seq] = r
		}
		w.mark = b.Head.Position
		w.heads = append(w.heads, b.Head)
		if err := c.Shipped(w.mark); err != nil {
			return err
		}
	}
}

// live is a node's life, with everything that a spool does.
func (w *world) live(sys *memSystem) {
	for life := range 2 {
		s, err := w.reopen(sys)
		if err != nil {
			return
		}
		for i := range 4 {
			_ = w.append(s, 1+i%3)
			_ = w.append(s, 1)
			_ = w.settle(s)
		}
		for range 8 {
			_ = w.append(s, 5)
		}
		<-time.After(tick + time.Second) // a head, and another segment
		_ = w.append(s, 2)
		for range 4 {
			if w.ship(s) == nil {
				break
			}
		}
		<-time.After(2*tick + time.Second) // the first segments are deleted
		for range 8 {                      // and one is begun that stays the last
			_ = w.append(s, 2)
		}
		_ = w.settle(s)
		_ = w.append(s, 2)
		if life > 0 {
			sys.die()
		}
		if s.Close() == nil {
			for name := range w.acked {
				w.acked[name] = true
			}
		}
	}
}

// reopen tries as often as calls fail, and once more.
func (w *world) reopen(sys *memSystem) (s *Spool, err error) {
	for range 4 {
		if s, err = w.open(sys); err == nil {
			break
		}
	}
	return s, err
}

// check opens what was left and finds every record once.
func (w *world) check(t *testing.T, sys *memSystem, crashed bool) {
	t.Helper()
	s, err := w.open(sys)
	if err != nil {
		t.Fatalf("what was left cannot be opened: %v", err)
	}
	defer s.Close()
	if err := w.append(s, 1); err != nil {
		t.Fatalf("nothing can be appended afterwards: %v", err)
	}
	if err := settle(s); err != nil {
		t.Fatal(err)
	}
	if err := w.ship(s); err != nil {
		t.Fatalf("what was left cannot be shipped: %v", err)
	}
	w.readBack(t, sys)
	report, err := verifyChains(t.Context(), w.rows(), w.trust, w.heads)
	if err != nil || !report.OK() {
		t.Fatalf("got %v, %v, want a whole chain", report, err)
	}
	found := map[string]int{}
	for _, r := range w.known {
		if r.Face == FaceSQL {
			found[r.Secret]++
		}
	}
	for name, n := range found {
		if n != 1 {
			t.Errorf("%s was recorded %d times", name, n)
		}
	}
	missing := 0
	for name, durable := range w.acked {
		switch {
		case found[name] > 0:
		case durable:
			t.Errorf("%s was appended, was durable, and is not there", name)
		default:
			missing++
		}
	}
	lost := 0
	for _, n := range report.Notes {
		if n.Kind == MayBeMissing {
			lost++
		}
	}
	if lost > 0 && w.mode == SyncAlways {
		t.Errorf("got notes %v, but nothing can be lost", report.Notes)
	}
	if missing > 0 && (!crashed || lost == 0) {
		t.Errorf("%d records are missing, crashed %v, and the report has %v", missing, crashed, report.Notes)
	}
}

func (w *world) rows() func(func(Row, error) bool) {
	return func(yield func(Row, error) bool) {
		for seq := uint64(1); seq <= w.mark.Seq; seq++ {
			if r, ok := w.known[seq]; ok && !yield(r, nil) {
				return
			}
		}
	}
}

// verifyChains checks chains alone.
func verifyChains(ctx context.Context, rows iter.Seq2[Row, error], trust Trust, heads []Head) (*Report, error) {
	return (&Evidence{Rows: rows, Heads: heads, Changes: each[Change](nil)}).Verify(ctx, Demands{Trust: trust})
}
