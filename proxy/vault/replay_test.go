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

func TestParseReplayed(t *testing.T) {
	for _, c := range []struct {
		text  string
		want  replayed
		tells bool
	}{
		{"0/16B3748 2", replayed{0x16B3748, 2}, false},
		{"0/16B3748 2 f", replayed{0x16B3748, 2}, false},
		{"A/0 4294967295 t", replayed{0xA00000000, 1<<32 - 1}, true},
	} {
		if got, tells := parseReplayed(c.text); got == nil || *got != c.want || tells != c.tells {
			t.Errorf("%q: %+v, %v; want %+v, %v", c.text, got, tells, c.want, c.tells)
		}
	}
	for _, bad := range []string{"", "0/1", "0 1", "0/1 x", "0/1 -1", "0/1 4294967296", "x 1 t"} {
		if got, tells := parseReplayed(bad); got != nil || tells {
			t.Errorf("%q is taken for %+v, %v", bad, got, tells)
		}
	}
}
