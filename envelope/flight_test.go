// SPDX-License-Identifier: GPL-3.0-or-later

package envelope_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope"
)

// bubble runs f with a fake clock, on which nothing passes but what f waits for.
func bubble(t *testing.T, edit func(*envelope.Config), f func(t *testing.T, s *envelope.Sealer, kms *testKMS)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		kms := newTestKMS(t)
		f(t, newSealer(t, kms, kms.KeyID(), edit), kms)
	})
}

// pass lets time go by.
func pass(d time.Duration) { <-time.After(d) }

// mustOpen opens r and checks how often the KMS has been asked to unwrap.
func mustOpen(t *testing.T, s *envelope.Sealer, kms *testKMS, r *envelope.Record, unwraps int32) {
	t.Helper()
	if got, err := s.Open(t.Context(), r, nil); err != nil || string(got) != "value" {
		t.Errorf("got %q, %v; want the value", got, err)
	}
	if got := kms.unwraps.Load(); got != unwraps {
		t.Errorf("got %d unwraps, want %d", got, unwraps)
	}
}

// goOpen opens r on another goroutine.
func goOpen(ctx context.Context, s *envelope.Sealer, r *envelope.Record) <-chan error {
	c := make(chan error, 1)
	go func() {
		got, err := s.Open(ctx, r, nil)
		if err == nil && string(got) != "value" {
			err = fmt.Errorf("got %q", got)
		}
		c <- err
	}()
	return c
}

func TestTTLFromUnwrap(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *envelope.Sealer, kms *testKMS) {
		r := seal(t, s, "a", []byte("value"))
		mustOpen(t, s, kms, r, 1)
		for range 299 { // use does not prolong it
			pass(time.Second)
			mustOpen(t, s, kms, r, 1)
		}
		pass(time.Second)
		mustOpen(t, s, kms, r, 2)
	})
}

// TestTTLFromBegin: the time that an unwrap takes counts.
func TestTTLFromBegin(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *envelope.Sealer, kms *testKMS) {
		r := seal(t, s, "a", []byte("value"))
		gate := make(chan struct{})
		kms.set(nil, gate)
		time.AfterFunc(9*time.Second, func() { close(gate) })
		mustOpen(t, s, kms, r, 1)
		pass(290 * time.Second)
		mustOpen(t, s, kms, r, 1)
		pass(time.Second)
		mustOpen(t, s, kms, r, 2)
	})
}

func TestNoCache(t *testing.T) {
	bubble(t, func(c *envelope.Config) { c.CacheTTL = 0 }, func(t *testing.T, s *envelope.Sealer, kms *testKMS) {
		r := seal(t, s, "a", []byte("value"))
		mustOpen(t, s, kms, r, 1)
		mustOpen(t, s, kms, r, 2)
		s.Flush()
		if got := s.Stats(); got.Capacity != 0 || got.Hits != 0 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestOneFlight(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *envelope.Sealer, kms *testKMS) {
		r := seal(t, s, "a", []byte("value"))
		gate := make(chan struct{})
		kms.set(nil, gate)
		var opens []<-chan error
		for range 50 {
			opens = append(opens, goOpen(t.Context(), s, r))
		}
		synctest.Wait()
		close(gate)
		for _, c := range opens {
			if err := <-c; err != nil {
				t.Error(err)
			}
		}
		mustOpen(t, s, kms, r, 1)
	})
}

// TestFlightOutlivesCaller: the flight goes on and serves the next caller, whose
// own deadline it does not have.
func TestFlightOutlivesCaller(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *envelope.Sealer, kms *testKMS) {
		r := seal(t, s, "a", []byte("value"))
		gate := make(chan struct{})
		kms.set(nil, gate)
		ctx, cancel := context.WithCancel(t.Context())
		first := goOpen(ctx, s, r)
		synctest.Wait()
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want Canceled", err)
		}
		second := goOpen(t.Context(), s, r)
		synctest.Wait()
		close(gate)
		if err := <-second; err != nil {
			t.Error(err)
		}
		mustOpen(t, s, kms, r, 1)
	})
}

func TestFlightDeadline(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *envelope.Sealer, kms *testKMS) {
		r := seal(t, s, "a", []byte("value"))
		kms.set(nil, make(chan struct{}))
		begun := time.Now()
		_, err := s.Open(t.Context(), r, nil)
		var e *envelope.KMSError
		if !errors.As(err, &e) || e.Kind != envelope.KMSUnavailable || errors.Is(err, envelope.ErrTampered) {
			t.Errorf("got %v, want unavailable", err)
		}
		if _, err := s.NewKey(t.Context(), "a"); !errors.As(err, &e) || e.Kind != envelope.KMSUnavailable {
			t.Errorf("NewKey: got %v, want unavailable", err)
		}
		if got, want := time.Since(begun), 20*time.Second; got != want {
			t.Errorf("both took %v, want %v", got, want)
		}
	})
}

func TestFailureRemembered(t *testing.T) {
	for kind, tampered := range map[envelope.KMSErrorKind]bool{envelope.KMSDenied: false, envelope.KMSUnavailable: false, envelope.KMSInvalid: true} {
		bubble(t, nil, func(t *testing.T, s *envelope.Sealer, kms *testKMS) {
			r, other := seal(t, s, "a", []byte("value")), seal(t, s, "b", []byte("value"))
			kms.set(kmsErr(kind), nil)
			for range 10 {
				_, err := s.Open(t.Context(), r, nil)
				var e *envelope.KMSError
				if !errors.As(err, &e) || e.Kind != kind || errors.Is(err, envelope.ErrTampered) != tampered {
					t.Errorf("got %v, want %v", err, kind)
				}
				pass(99 * time.Millisecond)
			}
			if got := kms.unwraps.Load(); got != 1 {
				t.Errorf("%v: got %d unwraps in a second, want 1", kind, got)
			}
			kms.set(nil, nil)
			mustOpen(t, s, kms, other, 2) // remembered for its own key only
			pass(10 * time.Millisecond)
			mustOpen(t, s, kms, r, 3)
		})
	}
}

func TestFlushForgetsFailure(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *envelope.Sealer, kms *testKMS) {
		r := seal(t, s, "a", []byte("value"))
		kms.set(kmsErr(envelope.KMSDenied), nil)
		if _, err := s.Open(t.Context(), r, nil); err == nil {
			t.Error("got no error")
		}
		kms.set(nil, nil)
		s.Flush()
		mustOpen(t, s, kms, r, 2)
		pass(2 * time.Second)
		mustOpen(t, s, kms, r, 2)
	})
}

func TestMaxInflight(t *testing.T) {
	bubble(t, func(c *envelope.Config) { c.MaxInflight = 3 }, func(t *testing.T, s *envelope.Sealer, kms *testKMS) {
		var rs []*envelope.Record
		for i := range 20 {
			rs = append(rs, seal(t, s, fmt.Sprintf("n%d", i), []byte("value")))
		}
		gate := make(chan struct{})
		kms.set(nil, gate)
		var opens []<-chan error
		for _, r := range rs {
			opens = append(opens, goOpen(t.Context(), s, r))
		}
		key := make(chan error, 1)
		go func() { // a Generate counts among them
			k, err := s.NewKey(t.Context(), "a")
			if err == nil {
				k.Destroy()
			}
			key <- err
		}()
		synctest.Wait()
		if got := kms.inside.Load(); got != 3 {
			t.Errorf("got %d calls at one time, want 3", got)
		}
		close(gate)
		for _, c := range append(opens, key) {
			if err := <-c; err != nil {
				t.Error(err)
			}
		}
		if got := kms.most.Load(); got != 3 {
			t.Errorf("got up to %d calls at one time, want 3", got)
		}
	})
}

// TestFlushDuringFlight: those who wait are served, but the key is not kept, and
// who comes after the flush begins anew.
func TestFlushDuringFlight(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *envelope.Sealer, kms *testKMS) {
		r := seal(t, s, "a", []byte("value"))
		gate := make(chan struct{})
		kms.set(nil, gate)
		before := goOpen(t.Context(), s, r)
		synctest.Wait()
		s.Flush()
		after := goOpen(t.Context(), s, r)
		synctest.Wait()
		if got := kms.unwraps.Load(); got != 2 {
			t.Errorf("got %d unwraps, want 2", got)
		}
		close(gate)
		if err := errors.Join(<-before, <-after); err != nil {
			t.Error(err)
		}
		mustOpen(t, s, kms, r, 2)
		s.Flush()
		mustOpen(t, s, kms, r, 3)
	})
}

func TestClose(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *envelope.Sealer, kms *testKMS) {
		r, cached := seal(t, s, "a", []byte("value")), seal(t, s, "b", []byte("value"))
		mustOpen(t, s, kms, cached, 1)
		kms.set(nil, make(chan struct{}))
		waiting := goOpen(t.Context(), s, r)
		synctest.Wait()
		begun := time.Now()
		s.Close() // ends the flight; does not wait for its deadline
		if err := <-waiting; err == nil || time.Since(begun) != 0 {
			t.Errorf("got %v after %v, want an error at once", err, time.Since(begun))
		}
		for _, r := range []*envelope.Record{r, cached} {
			if _, err := s.Open(t.Context(), r, nil); !errors.Is(err, envelope.ErrClosed) {
				t.Errorf("got %v, want ErrClosed", err)
			}
		}
		if _, err := s.NewKey(t.Context(), "a"); !errors.Is(err, envelope.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
		if err := s.Canary(t.Context()); !errors.Is(err, envelope.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
		s.Flush()
		s.Close()
		_ = s.Stats()
	})
}

// panickingKMS panics in a call, if it is to.
type panickingKMS struct {
	*testKMS
	on bool
}

func (k *panickingKMS) Unwrap(ctx context.Context, keyID string, wrapped []byte, c envelope.Context) ([]byte, error) {
	if k.on {
		panic("key canary")
	}
	return k.testKMS.Unwrap(ctx, keyID, wrapped, c)
}

// TestFlightPanics: what the KMS answers may fail an opening, not the process.
func TestFlightPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := &panickingKMS{testKMS: newTestKMS(t), on: true}
		s := newSealer(t, kms, kms.KeyID(), nil)
		r := seal(t, s, "a", []byte("value"))
		if _, err := s.Open(t.Context(), r, nil); err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "string") {
			t.Errorf("got %v", err)
		}
		kms.on = false
		pass(time.Second) // failures are remembered
		mustOpen(t, s, kms.testKMS, r, 1)
	})
}
