// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"math"
	"testing"
	"time"
)

func TestSeenWrites(t *testing.T) {
	var s seenWrites
	s.note("a", Position{1, 0x2000})
	s.note("a", Position{1, 0x1000}) // asked later, written before
	if got := s.get("a"); got != (Position{1, 0x2000}) {
		t.Errorf("got %v", got)
	}
	s.note("a", Position{1, math.MaxUint64})
	s.note("a", Position{2, 0x1000})
	was := s.get("a")
	if was != (Position{2, 0x1000}) {
		t.Errorf("got %v", was)
	}
	s.note("a", Position{2, 0x3000})
	s.forget("a", was) // not the one of now
	if s.get("a") == (Position{}) {
		t.Error("a later write was forgotten")
	}
	if got := s.get("nobody"); got != (Position{}) {
		t.Errorf("got %v", got)
	}
	for i := range maxSeen + 10 {
		s.note(string(rune('b'+i)), Position{1, 1})
	}
	if len(s.by) != maxSeen {
		t.Errorf("%d are remembered", len(s.by))
	}
}

// TestReader: where a read goes that is to see something. The local server answers
// nobody; what it was seen to show is given.
func TestReader(t *testing.T) {
	v, _, _ := newTestVault(t, nil)
	v.replay.Store(&replayed{at: time.Now().Add(time.Hour), timeline: 2, position: 10})
	v.primary.Store(&primaryAnswer{at: time.Now().Add(time.Hour), primary: Primary{Server{"tcp", "127.0.0.1:2"}, "1", 2}})
	for name, c := range map[string]struct {
		wrote, after Position
		moved        bool
		want         Kind
	}{
		"nothing to see":               {Position{}, Position{}, false, noKind},
		"what is shown":                {Position{2, 9}, Position{2, 10}, false, noKind},
		"its own write is not":         {Position{2, 11}, Position{}, true, noKind},
		"another one's write is not":   {Position{2, 9}, Position{2, 11}, true, noKind},
		"its own, though not another":  {Position{2, 11}, Position{1, 9}, true, noKind},
		"an earlier timeline's":        {Position{1, math.MaxUint64}, Position{1, 99}, false, noKind},
		"a place that is not known":    {Position{2, math.MaxUint64}, Position{}, true, noKind},
		"far ahead":                    {Position{}, Position{2, math.MaxUint64 - 1}, true, noKind},
		"a timeline that is to come":   {Position{}, Position{3, 1}, false, KindStale},
		"one that never will":          {Position{2, 9}, Position{math.MaxUint32, 0}, false, KindStale},
		"an earlier one, and to come":  {Position{1, 9}, Position{3, 1}, false, KindStale},
		"written in a later one, here": {Position{3, 1}, Position{2, 1}, false, KindStale},
	} {
		a := &Access{Actor: Actor{Name: name}}
		if c.wrote != (Position{}) {
			a.wrote(v, c.wrote)
		}
		a.ReadAfter(c.after)
		pool, as, done, err := v.reader(t.Context(), a)
		if err != nil {
			if KindOf(err) != c.want {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		done()
		if c.want != noKind || as.Moved != c.moved || (pool == v.store.rest) == c.moved {
			t.Errorf("%s: moved %v, want %v", name, as.Moved, c.moved)
		}
		if !c.moved && c.wrote != (Position{}) && v.seen.get(name) != (Position{}) {
			t.Errorf("%s: what is shown is still remembered", name)
		}
	}
	if len(v.moved) != 0 {
		t.Errorf("%d turns are still taken", len(v.moved))
	}
}

// TestReaderTurns: reads at the primary wait for each other, not for ever.
func TestReaderTurns(t *testing.T) {
	v, _, _ := newTestVault(t, nil)
	v.primary.Store(&primaryAnswer{at: time.Now().Add(time.Hour), primary: Primary{Server{"tcp", "127.0.0.1:2"}, "1", 2}})
	a := &Access{Actor: Actor{Name: "a"}}
	for range cap(v.moved) {
		v.moved <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, _, err := v.atThePrimary(ctx, a, Position{2, 1}); KindOf(err) != KindCanceled {
		t.Errorf("given up: %v", err)
	}
	if _, _, _, err := v.atThePrimary(t.Context(), a, Position{2, 1}); KindOf(err) != KindStale {
		t.Errorf("no turn: %v", err)
	}
	<-v.moved
	_, as, done, err := v.atThePrimary(t.Context(), a, Position{2, 1})
	if err != nil || !as.Moved {
		t.Fatalf("a turn: %v", err)
	}
	if done(); len(v.moved) != cap(v.moved)-1 {
		t.Error("the turn was not given back")
	}
	v.primary.Store(&primaryAnswer{at: time.Now().Add(time.Hour), err: ErrNoPrimary})
	if _, _, _, err := v.atThePrimary(t.Context(), a, Position{2, 1}); KindOf(err) != KindStale || len(v.moved) != cap(v.moved)-1 {
		t.Errorf("no primary: %v, %d turns taken", err, len(v.moved))
	}
}

// TestOnWrite: the position goes to who asked for it.
func TestOnWrite(t *testing.T) {
	v, _, _ := newTestVault(t, nil)
	a := &Access{Actor: Actor{Name: "a"}}
	a.wrote(v, Position{1, 1}) // nobody asked
	var got []string
	a.OnWrite(func(p Position) { got = append(got, p.String()) })
	a.wrote(v, Position{1, 2})
	if len(got) != 1 || got[0] != "1/0/2" || v.seen.get("a") != (Position{1, 2}) {
		t.Errorf("got %v, remembered %v", got, v.seen.get("a"))
	}
}
