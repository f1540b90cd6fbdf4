// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

func TestNoteSealed(t *testing.T) {
	v, _, sink := newTestVault(t, nil)
	a := testActor
	a.Statement = 0xfeed_0000_0000_0001
	if err := v.NoteSealed(t.Context(), a, audit.ActionUpdate, "a/b", 3, 4711); err != nil {
		t.Fatal(err)
	}
	got, _ := sink.last()
	if len(got) != 1 || got[0].At.IsZero() {
		t.Fatalf("recorded %+v", got)
	}
	want := a.record(got[0].At, audit.ActionUpdate, audit.OutcomeOK)
	want.Secret, want.Version, want.Direct, want.Change = "a/b", 3, true, 4711
	if got[0] != want || want.Statement != a.Statement || want.Actor != "alice" {
		t.Errorf("recorded %+v, want %+v", got[0], want)
	}
	sink.err = errSpool
	wantKind(t, v.NoteSealed(t.Context(), a, audit.ActionUpdate, "a/b", 3, 0), KindAudit)
	wantKind(t, v.AuditReady(), KindAudit)
	sink.err = nil
	if err := v.AuditReady(); err != nil {
		t.Errorf("AuditReady: %v", err)
	}
}

// Who gives up while his record waits has cancelled; the audit is not at fault.
func TestAppendGivenUp(t *testing.T) {
	v, _, sink := newTestVault(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	sink.err = context.Canceled
	wantKind(t, v.Append(ctx, testActor.Record(ActionRead, OutcomeOK)), KindAudit) // not his
	cancel()
	wantKind(t, v.Append(ctx, testActor.Record(ActionRead, OutcomeOK)), KindCanceled)
	sink.err = errSpool
	wantKind(t, v.Append(ctx, testActor.Record(ActionRead, OutcomeOK)), KindAudit)
}

// A refusal is recorded also if the client has left, and without what may be a value.
func TestRefused(t *testing.T) {
	v, _, _ := newTestVault(t, nil)
	var got []audit.Record
	v.audit = sinkFunc(func(ctx context.Context, rs []audit.Record) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		got = append(got, rs...)
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, name := range []string{"a/b", "a value in the wrong place", ""} {
		r := testActor.Record(ActionPut, OutcomeFailed)
		r.Secret, r.Reason = name, "invalid"
		v.Refused(ctx, r)
	}
	if len(got) != 3 || got[0].Secret != "a/b" || got[1].Secret != "" || got[1].Reason != "invalid" {
		t.Errorf("recorded %+v", got)
	}
}

// What fails by REST is recorded once, wherever it failed.
func TestEnded(t *testing.T) {
	v, _, sink := newTestVault(t, nil)
	a := &Access{Actor: Actor{Name: "t", Role: "r", Via: ViaREST, Addr: netip.MustParseAddr("192.0.2.1")}, token: true}
	run := func(err error) (n int, last audit.Record) {
		_, before := sink.last()
		v.ended(t.Context(), a, audit.ActionDelete, "a/b", &err)
		rs, after := sink.last()
		if after > before {
			last = rs[0]
		}
		return after - before, last
	}
	if n, _ := run(nil); n != 0 {
		t.Errorf("done: %d records", n)
	}
	if n, r := run(missing("a/b")); n != 1 || r.Action != audit.ActionDelete || r.Outcome != audit.OutcomeFailed || r.Reason != "missing" || r.Secret != "a/b" {
		t.Errorf("missing: %d records, %+v", n, r)
	}
	if n, r := run(tampered("a/b", nil)); n != 1 || r.Action != audit.ActionTampering {
		t.Errorf("tampered: %d records, %+v", n, r)
	}
	if n, r := run(errors.New("x")); n != 1 || r.Reason != "internal" {
		t.Errorf("a bug: %d records, %+v", n, r)
	}
	if n, _ := run(v.refuse(t.Context(), a, audit.ActionDelete, "a/b", notKnown())); n != 0 {
		t.Errorf("refused before: %d records more", n)
	}
}

// sinkFunc is a sink that is always ready.
type sinkFunc func(context.Context, []audit.Record) error

func (f sinkFunc) Append(ctx context.Context, rs []audit.Record) error { return f(ctx, rs) }
func (sinkFunc) Ready() error                                          { return nil }

func TestNoteLogin(t *testing.T) {
	for _, tt := range []struct {
		logins LoginAudit
		want   int
	}{{LoginsOff, 0}, {LoginsFailed, 1}, {LoginsAll, 2}} {
		v, _, sink := newTestVault(t, func(c *Config, _ *testKMS) { c.Logins = tt.logins })
		v.NoteLogin(t.Context(), testActor, OutcomeOK, "")
		v.NoteLogin(t.Context(), testActor, OutcomeDenied, "password")
		last, n := sink.last()
		if n != tt.want || n > 0 && (last[0].Action != audit.ActionLogin || last[0].Outcome != OutcomeDenied || last[0].Reason != "password") {
			t.Errorf("%d: %d records, %+v", tt.logins, n, last)
		}
	}
}

func TestReadReport(t *testing.T) {
	a := testActor
	for _, tt := range []struct {
		text string
		ok   bool
		want Record
	}{
		{"delete ok - 3 4711 app/db", true, Record{Action: "delete", Outcome: "ok", Version: 3, Change: 4711, Secret: "app/db"}},
		{"grant ok - 0 4712 app billing/*", true, Record{Action: "grant", Outcome: "ok", Change: 4712, Secret: "app billing/*"}},
		{"read denied denied 0 0 app/db", true, Record{Action: "read", Outcome: "denied", Reason: "grant", Secret: "app/db"}},
		{"revoke denied denied 0 0 app a/*", true, Record{Action: "revoke", Outcome: "denied", Reason: "admin", Secret: "app a/*"}},
		{"read denied and_more 0 0 app/db", true, Record{Action: "read", Outcome: "denied", Reason: "and_more", Secret: "app/db"}},
		{"update failed unsealed 0 0 ", true, Record{Action: "update", Outcome: "failed", Reason: "unsealed"}},
		{"list ok - 2147483647 9223372036854775807 ", true, Record{Action: "list", Outcome: "ok", Version: 1<<31 - 1, Change: 1<<63 - 1}},
		{"", false, Record{}},
		{"delete ok - 3 4711", false, Record{}},
		{"Delete ok - 3 4711 a", false, Record{}},
		{"delete ok -- 3 4711 a", false, Record{}},
		{"delete ok - -3 4711 a", false, Record{}},
		{"delete ok - 2147483648 4711 a", false, Record{}},
		{"delete ok - 3 9223372036854775808 a", false, Record{}},
		{"delete  - 3 4711 a", false, Record{}},
	} {
		got, ok := a.ReadReport(tt.text, true)
		if ok {
			tt.want.Direct = true
			tt.want.At, tt.want.Actor, tt.want.SessionRole, tt.want.Face, tt.want.Addr, tt.want.Database = got.At, a.Name, a.Role, a.Via, a.Addr, a.Database
		}
		if ok != tt.ok || got != tt.want {
			t.Errorf("%q: got %+v, %v, want %+v, %v", tt.text, got, ok, tt.want, tt.ok)
		}
	}
}

// FuzzReport: what is taken for a report makes a record that a chain can hold.
func FuzzReport(f *testing.F) {
	f.Add("delete ok - 3 4711 app/db")
	f.Add("grant denied denied 0 0 app a/*")
	s, err := audit.Open(f.TempDir(), audit.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() }) // nothing of it is looked at
	f.Fuzz(func(t *testing.T, text string) {
		if r, ok := testActor.ReadReport(text, true); ok {
			if err := s.Append(t.Context(), []audit.Record{r}); err != nil {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}

// A token that stands in the place of a name is in no record, whichever way it came.
func TestRecordsHoldNoToken(t *testing.T) {
	v, _, sink := newTestVault(t, nil)
	token := string(NewToken())
	for _, tc := range []struct {
		text string
		kept bool
	}{
		{token, false},
		{"app/" + token, false},
		{token + "x/y", false},
		{token[:30], false},
		{"hvt_hvt_" + token[4:], false},
		{"hvt_short", true},
		{"app/hvt_/x", true},
		{"app/db", true},
	} {
		want := ""
		if tc.kept {
			want = tc.text
		}
		if err := v.NoteSealed(t.Context(), testActor, ActionPut, tc.text, 1, 0); err != nil {
			t.Fatal(err)
		}
		if rs, _ := sink.last(); rs[0].Secret != want {
			t.Errorf("%q is recorded as %q", tc.text, rs[0].Secret)
		}
		if err := v.Append(t.Context(), Record{Actor: tc.text, SessionRole: tc.text, Database: tc.text}); err != nil {
			t.Fatal(err)
		}
		if rs, _ := sink.last(); rs[0].Actor != want || rs[0].SessionRole != want || rs[0].Database != want {
			t.Errorf("%q is recorded in %+v", tc.text, rs[0])
		}
	}
}
