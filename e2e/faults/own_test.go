// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package faults

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/history"
)

// TestUnfenced: what the judge of fencing sees.
func TestUnfenced(t *testing.T) {
	promoted := []promotion{{at: 5, timeline: 2}}
	for _, test := range []struct {
		what string
		op   history.Op
		want bool
	}{
		{"on the new timeline", history.Op{Begin: 6, Timeline: 2, Outcome: history.OK}, false},
		{"on the old one, before", history.Op{Begin: 4, Timeline: 1, Outcome: history.OK}, false},
		{"on the old one, refused", history.Op{Begin: 6, Timeline: 1, Outcome: history.Failed}, false},
		{"no write", history.Op{Begin: 6, Outcome: history.OK}, false},
		{"on the old one, later", history.Op{Begin: 6, Timeline: 1, Outcome: history.OK}, true},
	} {
		if got := unfenced(&test.op, promoted) != ""; got != test.want {
			t.Errorf("%s: got %v, want %v", test.what, got, test.want)
		}
	}
}

// TestWindow: what is said of an outage.
func TestWindow(t *testing.T) {
	const ms = time.Millisecond
	o := outage{from: 100 * ms, to: 200 * ms}
	for _, test := range []struct {
		at   []time.Duration
		want string
	}{
		{[]time.Duration{50 * ms, 90 * ms, 180 * ms, 210 * ms}, "90ms"},
		{[]time.Duration{95 * ms, 105 * ms, 190 * ms, 400 * ms, 900 * ms}, "210ms"},
		{[]time.Duration{20 * ms, 60 * ms, 230 * ms}, "170ms"},
		{[]time.Duration{230 * ms}, "130ms"},
		{[]time.Duration{50 * ms, 150 * ms}, "no more"},
		{nil, "no more"},
	} {
		if got := window(test.at, o); got != test.want {
			t.Errorf("%v: got %s, want %s", test.at, got, test.want)
		}
	}
}

// TestUnsealed: a value in any file is found.
func TestUnsealed(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("1", "\x00\x01description 7 of run 4711\x00")
	write("2", "value of run")
	if found, described := search(t, dir); len(found) != 0 || !described {
		t.Errorf("got %q, %v, want a description only", found, described)
	}
	write("3", "\x00\xffvalue 8 of run 4711\x00")
	if found, _ := search(t, dir); len(found) != 1 {
		t.Errorf("got %q, want one value", found)
	}
}
