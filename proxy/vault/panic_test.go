// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// TestRescue: a panic of one job is logged by its type and place, not by its text.
func TestRescue(t *testing.T) {
	var log strings.Builder
	v := &Vault{log: slog.New(slog.NewTextHandler(&log, nil)), metrics: newMetrics()}
	failed := false
	func() {
		defer v.rescue(t.Context(), "test", func() { failed = true })
		panic("panic canary")
	}()
	if !failed {
		t.Error("the job was not told to have failed")
	}
	if got := log.String(); strings.Contains(got, "canary") || !strings.Contains(got, "type=string") || !strings.Contains(got, "proxy/vault.TestRescue") {
		t.Errorf("got %s", got)
	}
}

// TestOpeningPanics: a panic beside others ends the opening, not the process.
func TestOpeningPanics(t *testing.T) {
	v, _, _ := newTestVault(t, nil)
	o := newOpening(4)
	defer o.release()
	texts := make([][]byte, 4)
	for i := range texts {
		texts[i] = sealText(t, v, "a", int32(i+1), "x")
	}
	s := v.sealer.Load()
	if _, err := v.parse(s, o, texts); err != nil {
		t.Fatal(err)
	}
	o.plains = nil // has no room for what is opened
	if _, err := v.openRest(t.Context(), s, o, 0, make([]byte, 4)); KindOf(err) != KindInternal || !errors.Is(err, errPanic) {
		t.Errorf("got %v", err)
	}
}

// TestSteadily: work goes on after a panic, later each time, until it returns or ctx
// ends.
func TestSteadily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &Vault{log: slog.New(slog.DiscardHandler), metrics: newMetrics()}
		began := time.Now()
		var at []time.Duration
		v.Steadily(t.Context(), "test", func(context.Context) {
			at = append(at, time.Since(began))
			if len(at) < 4 {
				panic("panic canary")
			}
		})
		if want := []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("begun at %v, want %v", at, want)
		}
		if got := testutil.ToFloat64(v.metrics.panics); got != 3 {
			t.Errorf("%v panics counted, want 3", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		n := 0
		v.Steadily(ctx, "test", func(context.Context) {
			n++
			panic("panic canary")
		})
		if ctx.Err() == nil || n < 12 || n > 20 {
			t.Errorf("begun %d times, %v", n, ctx.Err())
		}
	})
}

// TestAskingPanics: who waits for an answer that a panic has prevented gets an error.
func TestAskingPanics(t *testing.T) {
	v := &Vault{log: slog.New(slog.DiscardHandler), metrics: newMetrics()}
	answer := <-v.askShared(t.Context(), "test", time.Minute, func(context.Context) (any, error) { panic("panic canary") })
	if !errors.Is(answer.Err, errPanic) {
		t.Errorf("got %v", answer.Err)
	}
	v.witnesses = []*witness{nil, nil} // asking these panics
	if got := v.claims(t.Context()); got != nil {
		t.Errorf("got %v", got)
	}
	if got := testutil.ToFloat64(v.metrics.panics); got != 3 {
		t.Errorf("%v panics counted, want 3", got)
	}
}

// panics is a sink that does.
type panics struct{ audit.Discard }

func (panics) Append(context.Context, []audit.Record) error { panic("panic canary") }

// TestTurnAfterPanic: a read at the primary that panics before it has begun gives its turn
// back.
func TestTurnAfterPanic(t *testing.T) {
	v, _, _ := newTestVault(t, func(c *Config, _ *testKMS) { c.Audit = panics{} })
	v.replay.Store(&replayed{at: time.Now().Add(time.Hour), timeline: 1, position: 1})
	v.primary.Store(&primaryAnswer{at: time.Now().Add(time.Hour), primary: Primary{Server{"tcp", "127.0.0.1:2"}, "1", 1}})
	a := &Access{Actor: Actor{Name: "a"}, token: true, admin: true}
	a.ReadAfter(Position{1, 2})
	for name, read := range map[string]func(){
		"a list": func() { _, _, _ = v.listing(t.Context(), a, audit.ActionTokenList, "", "") },
		"where it reads": func() {
			known := v.store
			defer func() { v.store = known }()
			v.store, v.atPrimary.at = nil, Server{}
			_, _, _, _ = v.atThePrimary(t.Context(), a, a.after)
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: it did not panic", name)
				}
			}()
			read()
		}()
		if len(v.moved) != 0 {
			t.Errorf("%s: the turn is kept", name)
			<-v.moved
		}
	}
}
