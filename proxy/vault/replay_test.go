// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import "testing"

func TestParsePosition(t *testing.T) {
	for text, want := range map[string]uint64{
		"0/0": 0, "0/16B3748": 0x16B3748, "A/FF": 0xA000000FF, "FFFFFFFF/FFFFFFFF": 1<<64 - 1,
		"0/2018": 0x2000, "1/2018": 0x100002000, // directly behind a page's header
		"0/2019": 0x2019, "0/1000028": 0x1000028, // behind a segment's: left alone
	} {
		if got, ok := parsePosition(text); !ok || got != want {
			t.Errorf("%s: %X, %v; want %X", text, got, ok, want)
		}
	}
	for _, bad := range []string{"", "/", "1", "1/", "/1", "x/1", "1/x", "100000000/0", "0/100000000", "0/1/2", "-1/0"} {
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
