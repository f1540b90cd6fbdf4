// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// TestWithhold: of what only looks, the vault gets the links of the chain.
func TestWithhold(t *testing.T) {
	tests := []struct {
		action   Action
		outcome  Outcome
		withheld bool
	}{
		{ActionRead, OutcomeOK, true},
		{ActionVerify, OutcomeMismatch, true},
		{ActionList, OutcomeOK, true},
		{ActionTokenList, OutcomeOK, true},
		{ActionRead, OutcomeDenied, false},
		{ActionRead, OutcomeFailed, false},
		{ActionVerify, OutcomeLockedOut, false},
		{ActionUpdate, OutcomeOK, false},
		{ActionTokenCreate, OutcomeOK, false},
	}
	s := openMem(t, newMemSystem(), Options{Remark: RemarkShipWrites})
	for _, test := range tests {
		mustAppend(t, s, Record{
			Face: FaceSQL, Action: test.action, Outcome: test.outcome, Actor: "a", SessionRole: "r", Database: "d", Secret: "s", Version: 1, Direct: true,
			Reason: "x", Change: 2, Statement: 1 << 63,
		})
	}
	rows := rowsOf(t, s)
	c, err := s.Cursor(rows[0].Position()) // behind the start
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := c.Next(len(rows))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Withhold(); err != nil || b.N != len(tests) {
		t.Fatalf("%d records, %v, want %d", b.N, err, len(tests))
	}
	for i, test := range tests {
		row := rows[i+1]
		want := row.Record
		if test.withheld {
			want = Record{At: row.At, Action: ActionWithheld}
		}
		record := append(want.appendBody(nil, row.Node, row.Seq), row.Hash[:]...)
		if !bytes.HasPrefix(b.Records, record) {
			t.Errorf("%s %s: got %q, want %q", test.action, test.outcome, b.Records, record)
		}
		b.Records = b.Records[min(len(record), len(b.Records)):]
	}
	if len(b.Records) > 0 {
		t.Errorf("%q is left", b.Records)
	}
}

// TestWithholdAsAnnounced: what a process has left to the next one is withheld as its own
// start says, however often that was: else who verifies takes it for hidden.
func TestWithholdAsAnnounced(t *testing.T) {
	sys := newMemSystem()
	var last *Spool
	for _, remark := range []string{RemarkShipWrites, "", RemarkShipWrites, RemarkShipWrites} {
		last = openMem(t, sys, Options{Remark: remark})
		mustAppend(t, last, read("a"))
		if err := last.Close(); err != nil {
			t.Fatal(err)
		}
	}
	last = openMem(t, sys, Options{Remark: RemarkShipWrites})
	defer last.Close()
	c, err := last.Cursor(Position{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := c.Next(100)
	if err != nil {
		t.Fatal(err)
	}
	rows := rowsIn(t, &b)
	if err := b.Withhold(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range rows {
		r := &rows[i]
		whole := append(r.appendBody(nil, r.Node, r.Seq), r.Hash[:]...)
		if rest, ok := bytes.CutPrefix(b.Records, whole); ok {
			b.Records = rest
		} else {
			r.Record = Record{At: r.At, Action: ActionWithheld}
			b.Records = b.Records[len(r.appendBody(nil, r.Node, r.Seq))+len(r.Hash):]
		}
		if r.Action == ActionRead || r.withheld() {
			got = append(got, string(r.Action))
		}
	}
	if want := []string{"read", "read", "withheld", "withheld"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	node, key, _ := last.Identity()
	e := &Evidence{Rows: each(rows), Heads: []Head{b.Head}}
	if report, err := e.Verify(t.Context(), Demands{Trust: Trust{node: {key}}, Writes: []NodeID{node}}); err != nil || !report.OK() {
		t.Errorf("got %+v, %v, want nothing but notes", report, err)
	}
	if n, err := sys.lookup(testRoot + "/audit/" + remarkFile); err != nil || string(n.data) != remarkHead+RemarkShipWrites+"\nsince 7\n" {
		t.Errorf("got %q, %v", n.data, err)
	}
}

// TestRemarkOfNobody: the file is what a start has written, or nothing is begun.
func TestRemarkOfNobody(t *testing.T) {
	for text, want := range map[string]error{
		"":                                ErrDamaged,
		remarkHead:                        ErrDamaged,
		remarkHead + "x\nsince 1":         ErrDamaged,
		remarkHead + "x\nsince 01\n":      ErrDamaged,
		remarkHead + "x\nsince 1\nx":      ErrDamaged,
		remarkHead + "another\nsince 1\n": nil,
		remarkHead + "x\nsince 1\n":       nil,
		remarkHead + "x\nsince 900\n":     nil, // of a start that did not come to its end, before records were lost
	} {
		sys := newMemSystem()
		if err := openMem(t, sys, Options{Remark: "x"}).Close(); err != nil {
			t.Fatal(err)
		}
		n, err := sys.lookup(testRoot + "/audit/" + remarkFile)
		if err != nil {
			t.Fatal(err)
		}
		n.data = []byte(text)
		s, err := Open(testRoot, Options{Remark: "x", sys: sys})
		if !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", text, err, want)
		}
		if err != nil {
			continue
		}
		since := uint64(3) // the start, the stop and this start
		if text == remarkHead+"x\nsince 1\n" {
			since = 1
		}
		if s.since != since {
			t.Errorf("%q: since %d, want %d", text, s.since, since)
		}
		_ = s.Close()
	}
}
