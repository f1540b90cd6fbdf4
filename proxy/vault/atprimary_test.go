// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"io"
	"math"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestDoubt: a server that breaks off is doubted, and none is because a client left.
func TestDoubt(t *testing.T) {
	left, leave := context.WithCancel(t.Context())
	leave()
	late, end := context.WithTimeout(t.Context(), 0)
	defer end()
	for name, c := range map[string]struct {
		ctx   context.Context //nolint:containedctx // what the test is about
		known bool
	}{"broke off": {t.Context(), false}, "took too long": {late, false}, "the client left": {left, true}} {
		p := Primary{Timeline: 1}
		v := &Vault{}
		v.primary.Store(&primaryAnswer{primary: p})
		err := v.writeError(c.ctx, p, "a", io.ErrUnexpectedEOF)
		if (err.Kind == KindCanceled) != c.known { // only who has left has cancelled
			t.Errorf("%s: %v", name, err)
		}
		if known := v.primary.Load() != nil; known != c.known {
			t.Errorf("%s: known %v, want %v", name, known, c.known)
		}
	}
}

// TestFrozenRollback: a primary that stands still when a write is refused keeps neither who
// wrote nor those who wait for the same name.
func TestFrozenRollback(t *testing.T) {
	t.Parallel()
	at, frozen := frozenServer(t, "1 f 00000001")
	v, _, _ := newTestVault(t, func(c *Config, _ *testKMS) { c.SSLMode, c.AllowTrust = "disable", true })
	v.primary.Store(&primaryAnswer{at: time.Now().Add(time.Hour), primary: Primary{at, "1", 1}})
	ended := make(chan error, 1)
	go func() {
		ended <- v.transact(t.Context(), "a", nil, func(context.Context, pgx.Tx) error {
			close(frozen)
			return missing("a")
		}, nil)
	}()
	select {
	case err := <-ended:
		wantKind(t, err, KindMissing)
	case <-time.After(writeTimeout):
		t.Error("it waits for the ROLLBACK")
	}
}

// atOne is a vault whose primary is a server, with one connection for who writes.
func atOne(t *testing.T, at Server) (*Vault, Primary) {
	t.Helper()
	v, _, _ := newTestVault(t, func(c *Config, _ *testKMS) { c.SSLMode, c.AllowTrust, c.PoolMax = "disable", true, 2 })
	p := Primary{at, "1", 1}
	v.primary.Store(&primaryAnswer{at: time.Now().Add(time.Hour), primary: p})
	return v, p
}

// isPrimary answers as a primary that is at a place.
func isPrimary(sql string) string {
	if sql == SQLPosition {
		return "0/3000060 96"
	}
	return "1 f 00000001"
}

// TestFullPool: that others have all connections says nothing of the primary, and a node's
// own work has connections of its own.
func TestFullPool(t *testing.T) {
	v, p := atOne(t, answering(t, isPrimary))
	pool, err := v.atPrimary.to(v.store, p.Server)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	nothing := func(context.Context, pgx.Tx) error { return nil }
	late, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	wantKind(t, v.transact(late, "a", nil, nothing, nil), KindBusy)
	if v.primary.Load() == nil {
		t.Error("the primary is doubted")
	}
	if err := v.byItself(t.Context(), "", nothing); err != nil {
		t.Errorf("what the node does by itself: %v", err)
	}
}

// TestPositionForWhoLeft: who leaves while the primary is asked for the place of his write
// has written up to there all the same.
func TestPositionForWhoLeft(t *testing.T) {
	v, p := atOne(t, answering(t, isPrimary))
	pool, err := v.atPrimary.to(v.store, p.Server)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	left, leave := context.WithCancel(t.Context())
	leave()
	v.wroteBy(&Access{Actor: Actor{Name: "a"}})(left, conn, 1)
	if got := v.seen.get("a").String(); got != "1/0/3000060" {
		t.Errorf("it has written up to %s", got)
	}
}

// TestLearn: a place that was not known is asked for by the next read at the primary.
func TestLearn(t *testing.T) {
	v, _ := atOne(t, answering(t, isPrimary))
	v.replay.Store(&replayed{at: time.Now().Add(time.Hour), timeline: 1, position: 10})
	a := &Access{Actor: Actor{Name: "a"}}
	for want, wrote := range map[string]Position{"1/0/3000060": {1, math.MaxUint64}, "1/0/99": {1, 0x99}} {
		v.seen = seenWrites{}
		a.wrote(v, wrote)
		_, as, done, err := v.reader(t.Context(), a)
		if err != nil || !as.Moved {
			t.Fatalf("moved %v, %v", as.Moved, err)
		}
		done()
		if got := v.seen.get("a").String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
