// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"fmt"
	"testing"
	"time"
)

func TestMissLimiter(t *testing.T) {
	l := newMissLimiter(5, 300*time.Second)
	k, now := missKey{"app", "a/b"}, time.Unix(1e9, 0)
	try := func(k missKey, missed bool) bool {
		t.Helper()
		try, err := l.begin(k, now)
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
		try, err := l.begin(k, now)
		if err != nil {
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
	if try, err := l.begin(k, now); err != nil {
		t.Error("the hit's place was not given back")
	} else {
		try.end(true, now)
	}
	if _, err := l.begin(k, now); err == nil {
		t.Error("a sixth miss was let in")
	}
}

func TestMissLimiterIsBounded(t *testing.T) {
	l := newMissLimiter(5, 300*time.Second)
	now := time.Unix(1e9, 0)
	for i := range 2 * maxMissEntries {
		try, err := l.begin(missKey{"app", fmt.Sprint(i)}, now)
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
		try, err := l.begin(missKey{"r", "s"}, now)
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
