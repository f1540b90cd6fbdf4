// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"net/netip"
	"testing"

	"golang.org/x/time/rate"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// Who is nobody does not fill the disk with records of his refusals; how many were
// left out is recorded, and who is somebody has all of his.
func TestStrangers(t *testing.T) {
	v, _, _ := newTestVault(t, nil)
	v.strangers.limit = rate.NewLimiter(0, 2)
	v.logins = LoginsAll
	var got []audit.Record
	v.audit = sinkFunc(func(_ context.Context, rs []audit.Record) error {
		got = append(got, rs...)
		return nil
	})
	addr := netip.MustParseAddr("192.0.2.1")
	nobody := &Access{Actor: Actor{Name: nobody, Via: ViaREST, Addr: addr}}
	unknown := &Access{Actor: Actor{Via: ViaREST, Addr: addr}, token: true}
	for range 5 {
		_ = v.refuse(t.Context(), nobody, audit.ActionRead, "a/b", missing("a/b"))
		_ = v.refuse(t.Context(), unknown, audit.ActionRead, "a/b", missing("a/b"))
		v.NoteLogin(t.Context(), testActor, OutcomeDenied, "password")
	}
	if len(got) != 2 {
		t.Fatalf("%d records of strangers, want 2: %+v", len(got), got)
	}
	got = nil
	somebody := &Access{Actor: Actor{Name: "ci", Via: ViaREST, Addr: addr}, token: true}
	node := &Access{Actor: Actor{Via: audit.FaceNode}}
	for range 5 {
		_ = v.refuse(t.Context(), somebody, audit.ActionRead, "a/b", missing("a/b"))
		_ = v.refuse(t.Context(), node, audit.ActionRotate, "a/b", missing("a/b"))
		v.NoteLogin(t.Context(), testActor, OutcomeOK, "")
	}
	if len(got) != 15 {
		t.Errorf("%d records, want 15", len(got))
	}
	got = nil
	v.strangers.limit = rate.NewLimiter(rate.Inf, 1)
	_ = v.refuse(t.Context(), nobody, audit.ActionRead, "a/b", missing("a/b"))
	if len(got) != 2 || got[0].Reason != "and_more 13" || got[0].Secret != "" || got[0].Addr.IsValid() || got[1].Addr != addr {
		t.Errorf("recorded %+v", got)
	}
}
