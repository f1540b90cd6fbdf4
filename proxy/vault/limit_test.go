// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestMissLimiter(t *testing.T) {
	l := newMissLimiter(5, 300*time.Second)
	k, now := missKey{"app", "a/b"}, time.Unix(1e9, 0)
	try := func(k missKey, missed bool) bool {
		t.Helper()
		try, _, err := l.begin(k, now)
		if err != nil {
			if err.Kind != KindLimited || err.Hint == "" {
				t.Fatalf("refused with %v", err)
			}
			return false
		}
		try.end(missed, now)
		return true
	}
	for range 100 { // hits cost nothing
		if !try(k, false) {
			t.Fatal("a hit was refused")
		}
	}
	for i := range 5 {
		if !try(k, true) {
			t.Fatalf("miss %d was refused", i+1)
		}
	}
	if try(k, true) {
		t.Error("the sixth miss was let in")
	}
	if !try(missKey{"other", "a/b"}, true) || !try(missKey{"app", "a/c"}, true) {
		t.Error("another role or secret was refused")
	}
	now = now.Add(59 * time.Second)
	if try(k, true) {
		t.Error("let in before a miss was forgotten")
	}
	now = now.Add(2 * time.Second)
	if !try(k, true) || try(k, true) {
		t.Error("after a fifth of the window there is one more try, not none or two")
	}
}

// Tries at the same time get no more guesses than tries in a row.
func TestMissLimiterCountsTriesInProgress(t *testing.T) {
	l := newMissLimiter(5, 300*time.Second)
	k, now := missKey{"app", "a/b"}, time.Unix(1e9, 0)
	var tries []missTry
	for {
		try, ended, err := l.begin(k, now)
		if err != nil {
			t.Fatal(err)
		}
		if ended != nil {
			break
		}
		tries = append(tries, try)
	}
	if len(tries) != 5 {
		t.Fatalf("%d tries at the same time, want 5", len(tries))
	}
	for i, try := range tries {
		try.end(i > 0, now) // the first one hits
	}
	if try, ended, err := l.begin(k, now); err != nil || ended != nil {
		t.Error("the hit's place was not given back")
	} else {
		try.end(true, now)
	}
	if _, _, err := l.begin(k, now); err == nil {
		t.Error("a sixth miss was let in")
	}
}

// Who has the right value is not refused because of others who have: he waits for them,
// and is refused once they have missed, or do not end.
func TestMissLimiterWaits(t *testing.T) {
	for _, tt := range []struct {
		name string
		ends func(tries []missTry) // nil: the caller gives up
		want Kind                  // 0: he is let in
	}{
		{"a hit", func(tries []missTry) { tries[0].end(false, time.Now()) }, 0},
		{"misses and a hit", func(tries []missTry) {
			for i, try := range tries {
				try.end(i < 4, time.Now())
			}
		}, 0},
		{"misses", func(tries []missTry) {
			for _, try := range tries {
				try.end(true, time.Now())
			}
		}, KindLimited},
		{"nothing", func([]missTry) {}, KindBusy},
		{"the caller", nil, KindCanceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, k := newMissLimiter(5, time.Hour), missKey{"app", "a/b"}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var tries []missTry
				for range 5 {
					try, err := l.enter(ctx, k)
					if err != nil {
						t.Fatal(err)
					}
					tries = append(tries, try)
				}
				sixth := make(chan *Error)
				go func() {
					_, err := l.enter(ctx, k)
					sixth <- err
				}()
				synctest.Wait()
				select {
				case err := <-sixth:
					t.Fatalf("it did not wait: %v", err)
				default:
				}
				if tt.ends == nil {
					cancel()
				} else {
					tt.ends(tries)
				}
				switch err := <-sixth; {
				case tt.want == 0 && err != nil:
					t.Errorf("refused: %v", err)
				case tt.want != 0 && (err == nil || err.Kind != tt.want):
					t.Errorf("got %v, want kind %v", err, tt.want)
				}
			})
		})
	}
}

func TestMissLimiterIsBounded(t *testing.T) {
	l := newMissLimiter(5, 300*time.Second)
	now := time.Unix(1e9, 0)
	for i := range 2 * maxMissEntries {
		try, _, err := l.begin(missKey{"app", fmt.Sprint(i)}, now)
		if err != nil {
			t.Fatal(err)
		}
		try.end(true, now)
	}
	if len(l.buckets) > maxMissEntries {
		t.Errorf("%d entries, want at most %d", len(l.buckets), maxMissEntries)
	}
}

func TestMissesSetAnew(t *testing.T) {
	now := time.Unix(1000, 0)
	l := newMissLimiter(1, time.Hour)
	miss := func() bool {
		try, _, err := l.begin(missKey{"r", "s"}, now)
		if err == nil {
			try.end(true, now)
		}
		return err == nil
	}
	if !miss() || miss() {
		t.Fatal("want one miss")
	}
	l.set(100, time.Second, now)
	now = now.Add(time.Second)
	for i := range 100 {
		if !miss() {
			t.Fatalf("miss %d of 100 is refused", i+1)
		}
	}
	if miss() {
		t.Error("the 101st is not refused")
	}
}
