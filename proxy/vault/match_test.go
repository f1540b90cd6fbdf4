// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"net/netip"
	"testing"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

func TestMatch(t *testing.T) {
	v, _, sink := newTestVault(t, func(c *Config, _ *testKMS) { c.MaxMisses = 100 })
	records := [][]byte{ // newest first
		sealText(t, v, "a/b", 5, "five"),
		sealText(t, v, "a/b", 4, "same"),
		sealText(t, v, "a/b", 3, "same"),
		sealRecord(t, v, "a/b", 2, envelope.FormatBytes, "\xff\x00", nil),
		sealRecord(t, v, "a/b", 1, envelope.FormatUserpass, `{"username":"app","password":"pa\u0073s"}`, nil),
	}
	for _, tc := range []struct {
		candidate string
		want      int32
	}{
		{"five", 5},
		{"same", 4},
		{"\xff\x00", 2},
		{"pass", 1},
		{"fiv", 0},
		{"five ", 0},
		{"", 0},
		{"app", 0},
		{`{"username":"app","password":"pa\u0073s"}`, 0},
	} {
		got, err := v.Match(t.Context(), testActor, "a/b", records, []byte(tc.candidate))
		if err != nil || got != tc.want {
			t.Errorf("%q: %d, %v; want %d", tc.candidate, got, err, tc.want)
		}
		logged, _ := sink.last()
		outcome := audit.OutcomeOK
		if tc.want == 0 {
			outcome = audit.OutcomeMismatch
		}
		if len(logged) != 1 || logged[0].Action != audit.ActionVerify || logged[0].Outcome != outcome || logged[0].Version != tc.want || logged[0].Secret != "a/b" {
			t.Errorf("%q: recorded %+v", tc.candidate, logged)
		}
	}
	if got, err := v.Match(t.Context(), testActor, "a/b", nil, []byte("five")); got != 0 || err != nil {
		t.Errorf("no live record: %d, %v", got, err)
	}
}

func TestMatchRefuses(t *testing.T) {
	v, _, sink := newTestVault(t, nil)
	good := sealText(t, v, "a/b", 1, "s3cret")
	outside := testActor
	outside.Addr = netip.MustParseAddr("192.0.2.1")
	for _, tc := range []struct {
		name    string
		actor   Actor
		secret  string
		records [][]byte
		want    Kind
	}{
		{"address", outside, "a/b", [][]byte{good}, KindDenied},
		{"address, no records", outside, "a/b", nil, KindDenied},
		{"record's list", testActor, "a/b", [][]byte{sealRecord(t, v, "a/b", 1, envelope.FormatText, "s3cret", func(r *envelope.Record) {
			r.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}
		})}, KindDenied},
		{"another secret's record", testActor, "a/b", [][]byte{good, sealText(t, v, "a/c", 1, "s3cret")}, KindTampered},
		{"forged among good ones", testActor, "a/b", [][]byte{good, sealRecord(t, v, "a/b", 1, envelope.FormatText, "s3cret", func(r *envelope.Record) { r.Version = 2 })}, KindTampered},
		{"not a record", testActor, "a/b", [][]byte{[]byte("x")}, KindTampered},
		{"bad name", testActor, "a//b", [][]byte{good}, KindInvalid},
		{"userpass without password", testActor, "a/b", [][]byte{sealRecord(t, v, "a/b", 1, envelope.FormatUserpass, `{"username":"s3cret"}`, nil)}, KindInternal},
		{"userpass without JSON", testActor, "a/b", [][]byte{sealRecord(t, v, "a/b", 1, envelope.FormatUserpass, "s3cret", nil)}, KindInternal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			version, err := v.Match(t.Context(), tc.actor, tc.secret, tc.records, []byte("s3cret"))
			wantKind(t, err, tc.want)
			if version != 0 {
				t.Errorf("version %d beside an error", version)
			}
			if logged, _ := sink.last(); tc.want == KindDenied && logged[0].Outcome != audit.OutcomeDenied {
				t.Errorf("recorded %+v", logged)
			}
		})
	}
}

// Wrong guesses are limited per role and secret; errors and hits are not counted.
func TestMatchIsLimited(t *testing.T) {
	v, _, sink := newTestVault(t, func(c *Config, _ *testKMS) { c.MaxMisses = 2 })
	records := [][]byte{sealText(t, v, "a/b", 1, "s3cret")}
	match := func(a Actor, candidate string) error {
		t.Helper()
		_, err := v.Match(t.Context(), a, "a/b", records, []byte(candidate))
		return err
	}
	for range 5 {
		if err := match(testActor, "s3cret"); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := match(testActor, "guess"); err != nil {
			t.Fatal(err)
		}
	}
	e := asKind(t, match(testActor, "s3cret"), KindLimited)
	if e.Kind.SQLState() != "53400" || e.Secret != "a/b" {
		t.Errorf("got %+v", e)
	}
	if logged, _ := sink.last(); logged[0].Outcome != audit.OutcomeLockedOut {
		t.Errorf("recorded %+v", logged)
	}
	other := testActor
	other.Role = "other"
	if err := match(other, "s3cret"); err != nil {
		t.Errorf("another role: %v", err)
	}
}
