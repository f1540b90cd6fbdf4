// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// tight is room for nothing, until somebody has waited for it.
type tight struct {
	n      int
	awaits func(n int) error
}

func (r *tight) Fits(n int) bool { return n <= r.n }

func (r *tight) Await(_ context.Context, n int) error {
	if err := r.awaits(n); err != nil {
		return err
	}
	r.n = n
	return nil
}

// reads is who may read by its address.
func reads(t *testing.T) (*Vault, *Access) {
	t.Helper()
	v, _, _ := newTestVault(t, func(c *Config, _ *testKMS) { c.RESTAllowedIPs = mustAllow(t, "10.0.0.0/8") })
	actor := Actor{Name: nobody, Role: nobody, Via: ViaREST, Addr: netip.MustParseAddr("10.0.0.1")}
	return v, &Access{Actor: actor, admin: true, asked: time.Now().Add(time.Hour)}
}

// TestReadAheadFindsNoRoom: a record that came along is let go of while its read waits, and
// one for which there is room is opened.
func TestReadAheadFindsNoRoom(t *testing.T) {
	v, a := reads(t)
	record := sealText(t, v, "a", 1, "s3cret")
	came := func() *ahead { return &ahead{of: Wanted{Name: "a"}, record: record, kind: "manual"} }
	room := &tight{awaits: func(n int) error {
		if n != len(record) || a.ahead != nil {
			t.Errorf("it waits for %d bytes with %v", n, a.ahead)
		}
		return crowded("a", nil)
	}}
	a.SetRoom(room)
	a.ahead = came()
	_, err := v.Read(t.Context(), a, "a", 0)
	wantKind(t, err, KindBusy)
	room.awaits = func(int) error { return nil }
	a.ahead = came()
	_, err = v.Read(t.Context(), a, "a", 0)
	wantKind(t, err, KindServer) // asked again, and away
	a.ahead = came()
	s, err := v.Read(t.Context(), a, "a", 0)
	if err != nil || string(s.Value.Bytes()) != "s3cret" || a.ahead != nil {
		t.Errorf("with room: %v", err)
	}
}

// TestReadingAgain: what finds no room is read again when there is, unless the right to
// read it is gone meanwhile.
func TestReadingAgain(t *testing.T) {
	v, a := reads(t)
	room := &tight{awaits: func(int) error { return nil }}
	a.SetRoom(room)
	times := 0
	read := func(*pgxpool.Pool, Actor) error {
		if times++; !a.fits(100 * min(times, 2)) { // it has grown
			return noRoom(100 * times)
		}
		return nil
	}
	if err := v.reading(t.Context(), a, audit.ActionRead, "a", read); err != nil || times != 3 {
		t.Errorf("read %d times, %v", times, err)
	}
	room.n, times = 0, 0
	room.awaits = func(int) error {
		a.admin = false
		return nil
	}
	wantKind(t, v.reading(t.Context(), a, audit.ActionRead, "a", read), KindDenied)
	if times != 1 {
		t.Errorf("read %d times", times)
	}
}
