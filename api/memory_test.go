// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

func wantFree(t *testing.T, m *memory) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held != 0 || len(m.by) != 0 || len(m.waiting) != 0 {
		t.Errorf("%d bytes of %d clients are still held, %d wait", m.held, len(m.by), len(m.waiting))
	}
}

// TestMemory: a client has its share at most, and all together no more than there is.
func TestMemory(t *testing.T) {
	m := newMemory(100, 60)
	if !m.try("a", 60) || m.try("a", 1) || !m.own("a", 1) {
		t.Error("a has more than its share")
	}
	if m.own("b", 60) || m.try("b", 41) || !m.try("b", 40) || m.try("c", 1) {
		t.Error("they have more than there is")
	}
	m.give("a", 60)
	if !m.try("c", 60) {
		t.Error("what was given back is gone")
	}
	m.give("b", 40)
	m.give("c", 60)
	wantFree(t, m)
}

// TestMemoryWait: who came first gets it first, but keeps nobody from what he cannot have.
func TestMemoryWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(100, 60)
		m.try("a", 60)
		m.try("b", 20)
		var got []string
		waits := func(ctx context.Context, client string, n int) {
			go func() {
				if m.queue(ctx, client, n) {
					got = append(got, client)
				}
			}()
			synctest.Wait()
		}
		waits(t.Context(), "a", 10) // over its share
		waits(t.Context(), "c", 30)
		waits(t.Context(), "d", 20)
		gone, leave := context.WithCancel(t.Context())
		waits(gone, "e", 50)
		if len(got) != 1 || got[0] != "d" {
			t.Errorf("got %v, want d, for whom there is room", got)
		}
		leave()
		synctest.Wait()
		m.give("b", 20)
		m.give("d", 20)
		synctest.Wait()
		if len(got) != 2 || got[1] != "c" {
			t.Errorf("got %v, want c behind d", got)
		}
		m.give("a", 60)
		synctest.Wait()
		if len(got) != 3 || got[2] != "a" {
			t.Errorf("got %v, want all but who left", got)
		}
		m.give("a", 10)
		m.give("c", 30)
		wantFree(t, m)
	})
}

func holdOf(m *memory, name string) hold {
	return hold{of: m, access: &vault.Access{Actor: vault.Actor{Role: name}}} // without a token, by SQL, that is its name
}

// TestHold: what is small is not counted, and who waits holds nothing.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(4*smallHold, 3*smallHold)
		a, b := holdOf(m, "a"), holdOf(m, "b")
		if !a.resize(smallHold) || m.held != 0 || !a.Fits(smallHold/perRecord) || m.held != 0 {
			t.Errorf("%d bytes are held", m.held)
		}
		if !a.Fits(smallHold) || !a.Fits(1) || m.held != 3*smallHold {
			t.Errorf("%d bytes are held", m.held)
		}
		if !b.resize(smallHold) || b.resize(2*smallHold) {
			t.Error("there is room for more than there is")
		}
		if err := a.Await(t.Context(), smallHold+1); vault.KindOf(err) != vault.KindBusy || m.held != 0 {
			t.Errorf("more than its share: %v, %d bytes are held", err, m.held)
		}
		if !b.resize(2*smallHold) || !b.resize(smallHold+1) || m.held != smallHold+1 {
			t.Errorf("%d bytes are held", m.held)
		}
		a.free()
		b.free()
		b.free()
		wantFree(t, m)
	})
	var none hold
	if !none.resize(1<<40) || !none.Fits(1<<40) {
		t.Error("without a memory there is a bound")
	}
	none.free()
}

// TestWaitForOneself: who waits for what he himself holds takes no place of a request, and
// who waits for others has his.
func TestWaitForOneself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &conn{crowd: newCrowd(), served: true}
		c.crowd.under.Add(1)
		for who, want := range map[string]int64{"a": 0, "b": 1} {
			m := newMemory(100, 60)
			a, holder := holdOf(m, "a"), holdOf(m, who)
			m.try(holder.owner(), 50)
			ended := make(chan bool)
			go func() { ended <- a.wait(ConnContext(t.Context(), c), 51) }()
			synctest.Wait()
			if got := c.crowd.under.Load(); got != want {
				t.Errorf("what %s holds: %d requests count while a waits, want %d", who, got, want)
			}
			if <-ended || c.crowd.under.Load() != 1 {
				t.Errorf("what %s holds: afterwards %d requests count", who, c.crowd.under.Load())
			}
			m.give(holder.owner(), 50)
			wantFree(t, m)
		}
	})
}
