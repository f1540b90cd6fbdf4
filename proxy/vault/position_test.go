// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"math"
	"testing"
)

func TestPosition(t *testing.T) {
	for text, want := range map[string]Position{
		"1/0/0":                        {1, 0},
		"5/0/3000148":                  {5, 0x3000148},
		"4294967295/FFFFFFFF/FFFFFFFF": {math.MaxUint32, math.MaxUint64},
		"10/A/B":                       {10, 0xA0000000B},
	} {
		if got, ok := ParsePosition(text); !ok || got != want || got.String() != text {
			t.Errorf("%s: got %v, %v", text, got, ok)
		}
	}
	for _, bad := range []string{
		"", "/", "//", "0/0/1", "5", "5/0", "5/0/", "5//1", "/0/1", "5/0/1/2", "-5/0/1", "+5/0/1", "05/0/1", "5/00/1", "5/0/01", "5/a/1", "5/0/1 ",
		" 5/0/1", "4294967296/0/1", "5/100000000/0", "5/0/100000000", "x/0/1", "5/x/1", "5/0/x", "5/0x1/1", "5,0,1", "5/0/1\n", "5/0/1_0",
	} {
		if got, ok := ParsePosition(bad); ok {
			t.Errorf("%q is taken for %v", bad, got)
		}
	}
}

func TestPositionOf(t *testing.T) {
	for answer, want := range map[string]string{"0/2018 8216": "3/0/2000", "A/FF 255": "3/A/FF", "": "3/FFFFFFFF/FFFFFFFF", "x": "3/FFFFFFFF/FFFFFFFF"} {
		if got := positionOf(3, answer).String(); got != want {
			t.Errorf("%q: got %s, want %s", answer, got, want)
		}
	}
}

func TestShown(t *testing.T) {
	r := &replayed{position: 10, timeline: 2}
	for text, want := range map[string]bool{
		"2/0/9": true, "2/0/A": true, "2/0/B": false, "2/FFFFFFFF/FFFFFFFF": false,
		"1/0/9": true, "1/0/B": true, "1/FFFFFFFF/FFFFFFFF": true, // all of it that there still is
		"3/0/1": false, "4294967295/0/0": false,
	} {
		p, ok := ParsePosition(text)
		if got := r.shown(p); !ok || got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
	primary := &replayed{position: math.MaxUint64, timeline: 2, primary: true}
	if !primary.shown(Position{2, math.MaxUint64}) || primary.shown(Position{3, 0}) {
		t.Error("a primary shows all of its timeline, and of no later one")
	}
}
