// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"math"
	"testing"
	"time"
)

func TestParsePosition(t *testing.T) {
	for text, want := range map[string]uint64{
		"0/0 0": 0, "0/16B3748 7026504": 0x16B3748, "A/FF 255": 0xA000000FF, "FFFFFFFF/FFFFFFFF 16777215": 1<<64 - 1,
		"0/2018 8216": 0x2000, "1/2018 8216": 0x100002000, // directly behind a page's header
		"0/2019 8217":        0x2019,
		"0/1000028 40":       0x1000000,                        // behind a segment's
		"0/1000028 16777256": 0x1000028, "0/2028 8232": 0x2028, // not the first page of one
	} {
		if got, ok := parsePosition(text); !ok || got != want {
			t.Errorf("%s: %X, %v; want %X", text, got, ok, want)
		}
	}
	for _, bad := range []string{"", " 0", "/ 0", "1 0", "1/ 0", "/1 0", "x/1 0", "1/x 0", "100000000/0 0", "0/100000000 0", "0/1/2 0", "-1/0 0", "0/1", "0/1 ", "0/1 x", "0/1 1 2"} {
		if got, ok := parsePosition(bad); ok {
			t.Errorf("%q is taken for %X", bad, got)
		}
	}
}

func TestReplayedShows(t *testing.T) {
	r := &replayed{position: 10, timeline: 2}
	for _, c := range []struct {
		want     uint64
		timeline uint32
		shows    bool
	}{{9, 2, true}, {10, 2, true}, {11, 2, false}, {9, 1, false}, {9, 3, false}} {
		if got := r.shows(c.want, c.timeline); got != c.shows {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// What was seen before a connection was made counts for nobody who has it.
func TestReplayedSince(t *testing.T) {
	v, _, _ := newTestVault(t, nil)
	before := time.Now()
	r := &replayed{at: time.Now(), position: 10, timeline: 2}
	v.replay.Store(r)
	for since, want := range map[time.Time]bool{before.Add(-1): true, r.at: false, r.at.Add(time.Hour): false} {
		if got := v.Replayed(t.Context(), "0/A 10", 2, since); got != want {
			t.Errorf("since %v: %v", since.Sub(r.at), got)
		}
	}
}

func TestParseReplayed(t *testing.T) {
	for _, c := range []struct {
		text  string
		want  replayed
		tells bool
	}{
		{"0/16B3748 2 t", replayed{position: 0x16B3748, timeline: 2}, false},
		{"0/16B3748 2 f", replayed{position: math.MaxUint64, timeline: 2, primary: true}, false}, // all that there is
		{"0/16B3748 2 t f", replayed{position: 0x16B3748, timeline: 2}, false},
		{"A/0 4294967295 f t", replayed{position: math.MaxUint64, timeline: 1<<32 - 1, primary: true}, true},
	} {
		if got, tells := parseReplayed(c.text); got == nil || *got != c.want || tells != c.tells {
			t.Errorf("%q: %+v, %v; want %+v, %v", c.text, got, tells, c.want, c.tells)
		}
	}
	for _, bad := range []string{"", "0/1", "0/1 1", "0 1 t", "0/1 x t", "0/1 -1 t", "0/1 4294967296 t", "x 1 t t"} {
		if got, tells := parseReplayed(bad); got != nil || tells {
			t.Errorf("%q is taken for %+v, %v", bad, got, tells)
		}
	}
}
