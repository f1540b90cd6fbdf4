// SPDX-License-Identifier: GPL-3.0-or-later

package history

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

var replay = flag.String("replay", "", "judge this file again instead of a new one")

// TestReplay judges a file again: a new one, or that which a failing run has
// left (-replay FILE).
func TestReplay(t *testing.T) {
	path := *replay
	if path == "" {
		path = broken(t)
	}
	record, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	report := record.Check()
	if *replay != "" {
		t.Log(report)
		if err := report.Err(); err != nil {
			t.Error("promises are broken")
		}
		return
	}
	if len(report.Violations) != 1 || report.Violations[0].Promise != LostWrite || len(report.Excused) != 1 {
		t.Errorf("got %s\nwant a lost write, and one excused", report)
	}
}

// broken writes a record and compares it with what is read again.
func broken(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "history.jsonl")
	log, err := CreateLog(path)
	if err != nil {
		t.Fatal(err)
	}
	var tale tale
	tale.set(1, Settings{Tenant: "blue", Role: "none", SearchPath: `"$user", public`})
	tale.put(1, "a", "x", 1).Seen = &Settings{Tenant: "blue", Role: "none", SearchPath: `"$user", public`}
	positioned(tale.put(2, "a", "y", 2), 1<<40)
	tale.read(1, "b", "", 0).outcome(Failed, "42501")
	for _, op := range tale.ops {
		log.Append(*op)
	}
	rules := Rules{Lost: []Lost{{From: at(2), To: at(3)}}}
	report := log.Check(rules, Final{})
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	record, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := (&Record{Ops: log.Ops(), Rules: rules, Final: Final{}}); !reflect.DeepEqual(record, want) {
		t.Errorf("got %+v\nwant %+v", record, want)
	}
	if got, want := record.Check().String(), report.String(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	return path
}

// TestHalfALine: what a killed writer has left is read up to there; a line that
// is none is an error.
func TestHalfALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	whole := `{"op":{"id":1,"client":0,"node":"n1","session":1,"kind":"read","begin":1,"end":2,"outcome":"ok"}}` + "\n"
	for _, test := range []struct {
		text string
		ops  int
		ok   bool
	}{
		{whole + whole[:40], 1, true},
		{"", 0, true},
		{whole[:40] + "\n" + whole, 0, false},
		{`{"op":{"id":1,"colour":"blue"}}` + "\n", 0, false},
	} {
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		record, err := ReadFile(path)
		switch {
		case (err == nil) != test.ok:
			t.Errorf("%q: got %v, want it right: %t", test.text, err, test.ok)
		case err == nil && len(record.Ops) != test.ops:
			t.Errorf("%q: got %d operations, want %d", test.text, len(record.Ops), test.ops)
		}
	}
	if _, err := ReadFile(path + ".none"); err == nil {
		t.Error("no file: got no error")
	}
}

// TestNow never goes back.
func TestNow(t *testing.T) {
	log := NewLog()
	last := time.Duration(0)
	for range 1000 {
		now := log.Now()
		if now < last {
			t.Fatalf("got %v after %v", now, last)
		}
		last = now
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}
