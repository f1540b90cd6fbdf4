// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"errors"
	"testing"
)

func TestFence(t *testing.T) {
	a, b, c := Server{"tcp", "a:5432"}, Server{"tcp", "b:5432"}, Server{"tcp", "c:5432"}
	known := fence{system: "7", timeline: 3}
	for _, test := range []struct {
		name     string
		fence    fence
		claims   []claim
		want     Server // zero: ErrNoPrimary
		timeline uint32
	}{
		{"one primary", known, []claim{{a, "7", 3, false}, {b, "7", 3, true}}, b, 3},
		{"a later one", known, []claim{{a, "7", 3, true}, {b, "7", 4, true}}, b, 4},
		{"the order does not matter", known, []claim{{b, "7", 4, true}, {a, "7", 3, true}}, b, 4},
		{"the old one alone", known, []claim{{a, "7", 2, true}, {c, "7", 3, false}}, Server{}, 3},
		{"the old one alone, and nobody else answers", known, []claim{{a, "7", 2, true}}, Server{}, 3},
		{"a standby has seen a later one", known, []claim{{a, "7", 3, true}, {b, "7", 5, false}}, Server{}, 5},
		{"another cluster's", known, []claim{{a, "8", 9, true}, {b, "7", 3, true}}, b, 3},
		{"another cluster's alone", known, []claim{{a, "8", 9, true}}, Server{}, 3},
		{"nobody", known, nil, Server{}, 3},
		{"standbys only", known, []claim{{a, "7", 3, false}}, Server{}, 3},
		{"the local server has not answered yet", fence{}, []claim{{a, "8", 2, true}, {b, "7", 1, true}}, Server{}, 0},
	} {
		got, next, err := test.fence.choose(test.claims)
		if got.server != test.want || errors.Is(err, ErrNoPrimary) != (test.want == Server{}) {
			t.Errorf("%s: %v, %v; want %v", test.name, got.server, err, test.want)
		}
		if next.timeline != test.timeline || next.system != test.fence.system {
			t.Errorf("%s: knows %+v, want timeline %d", test.name, next, test.timeline)
		}
	}
}

func TestParseClaim(t *testing.T) {
	if c, ok := parseClaim(Server{}, "7 f 0000001A"); !ok || c.timeline != 26 || !c.primary || c.system != "7" {
		t.Errorf("got %+v, %v", c, ok)
	}
	for _, bad := range []string{"", "7 f", " f 00000001", "7 f ", "7 f 00000000", "7 f x", "7 f 100000001", "7 f 00000001 x"} {
		if c, ok := parseClaim(Server{}, bad); ok {
			t.Errorf("%q is taken for %+v", bad, c)
		}
	}
}

func TestConfirm(t *testing.T) {
	p := Primary{System: "7", Timeline: 3}
	for text, want := range map[string]uint32{"7 f 00000003": 3, "7 f 00000004": 4, "7 t 00000003": 0, "8 f 00000003": 0, "7 f 00000002": 0, "": 0} {
		if got, ok := p.Confirm(text); ok != (want != 0) || ok && got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, ok, want)
		}
	}
}
