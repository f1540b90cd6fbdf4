// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
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

// TestReplacedIsNotRead: nothing of a server that was replaced as the primary is opened,
// verified or listed, nor what it shows of a position.
func TestReplacedIsNotRead(t *testing.T) {
	v, kms, _ := newTestVault(t, func(c *Config, _ *testKMS) { c.RESTAllowedIPs = c.AllowedIPs })
	v.primary.Store(&primaryAnswer{at: time.Now().Add(time.Hour), primary: Primary{Server{"tcp", "127.0.0.1:2"}, "1", 2}})
	v.replay.Store(&replayed{at: time.Now().Add(time.Hour), timeline: 1, position: 10, primary: true})
	text := [][]byte{sealText(t, v, "a/b", 1, "s3cret")}
	v.Flush()
	v.localReplaced.Store(true)

	admin := &Access{Actor: testActor, token: true, admin: true, asked: time.Now().Add(time.Hour)}
	admin.Via = ViaREST
	came := *admin
	came.ahead = &ahead{of: Wanted{Name: "a/b"}, record: text[0]}
	for name, ask := range map[string]func(context.Context) error{
		"SQL": func(ctx context.Context) error { _, err := v.OpenSealed(ctx, testActor, true, text); return err },
		"verify": func(ctx context.Context) error {
			_, err := v.Match(ctx, testActor, "a/b", text, []byte("x"))
			return err
		},
		"no candidate": func(ctx context.Context) error {
			_, err := v.Match(ctx, testActor, "a/b", nil, []byte("x"))
			return err
		},
		"came along":  func(ctx context.Context) error { _, err := v.Read(ctx, &came, "a/b", 0); return err },
		"read":        func(ctx context.Context) error { _, err := v.Read(ctx, admin, "a/b", 0); return err },
		"many":        func(ctx context.Context) error { _, err := v.ReadMany(ctx, admin, []string{"a/b"}); return err },
		"versions":    func(ctx context.Context) error { _, err := v.Versions(ctx, admin, "a/b"); return err },
		"list":        func(ctx context.Context) error { _, _, err := v.List(ctx, admin, "", "", 1); return err },
		"REST verify": func(ctx context.Context) error { _, err := v.Verify(ctx, admin, "a/b", []byte("x")); return err },
		"roles":       func(ctx context.Context) error { _, _, err := v.Roles(ctx, admin, "", 1); return err },
		"tokens":      func(ctx context.Context) error { _, _, err := v.Tokens(ctx, admin, "", 1); return err },
	} {
		if err := ask(t.Context()); KindOf(err) != KindServer || !strings.Contains(err.Error(), "has replaced") { // nobody answers there
			t.Errorf("%s: got %v", name, err)
		}
	}
	if n := kms.unwraps.Load(); n != 0 {
		t.Errorf("the KMS was asked %d times", n)
	}
	admin.ReadAfter(Position{1, 9})
	if _, as, done, err := v.reader(t.Context(), admin); err != nil || !as.Moved {
		t.Errorf("what it shows is read there: %v", err)
	} else {
		done()
	}
}
