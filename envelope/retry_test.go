// SPDX-License-Identifier: GPL-3.0-or-later

package envelope_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope"
)

// scriptKMS answers each call with the next error, and with a key after the last.
type scriptKMS struct {
	errs  []error
	calls int
}

func (k *scriptKMS) next() error {
	k.calls++
	if k.calls <= len(k.errs) {
		return k.errs[k.calls-1]
	}
	return nil
}

func (k *scriptKMS) Generate(context.Context, envelope.Context) (plain, wrapped []byte, keyID string, err error) {
	return make([]byte, 32), []byte("wrapped"), "k", k.next()
}

func (k *scriptKMS) Unwrap(context.Context, string, []byte, envelope.Context) ([]byte, error) {
	return make([]byte, 32), k.next()
}

func kmsErr(kind envelope.KMSErrorKind) error { return &envelope.KMSError{Kind: kind} }

func TestRetry(t *testing.T) {
	away, slow, denied := kmsErr(envelope.KMSUnavailable), kmsErr(envelope.KMSThrottled), kmsErr(envelope.KMSDenied)
	for name, c := range map[string]struct {
		errs  []error
		calls int
		kind  envelope.KMSErrorKind // 0: success
		waits []time.Duration
	}{
		"at once":      {nil, 1, 0, nil},
		"third try":    {[]error{away, slow}, 3, 0, []time.Duration{100, 200}},
		"unclassified": {[]error{errors.New("reset by peer")}, 2, 0, []time.Duration{100}},
		"never":        {[]error{away, away, away, away, slow, away}, 5, envelope.KMSThrottled, []time.Duration{100, 200, 400, 500}},
		"denied":       {[]error{denied}, 1, envelope.KMSDenied, nil},
		"then denied":  {[]error{away, denied}, 2, envelope.KMSDenied, []time.Duration{100}},
		"not found":    {[]error{kmsErr(envelope.KMSNotFound)}, 1, envelope.KMSNotFound, nil},
		"disabled":     {[]error{kmsErr(envelope.KMSDisabled)}, 1, envelope.KMSDisabled, nil},
		"invalid":      {[]error{kmsErr(envelope.KMSInvalid)}, 1, envelope.KMSInvalid, nil},
	} {
		for _, call := range []string{"generate", "unwrap"} {
			script := &scriptKMS{errs: c.errs}
			var waits []time.Duration
			told := 0
			k := envelope.Retry(script, envelope.RetryConfig{
				MaxRetries: 4, Base: 100, Max: 500,
				Jitter:  func(bound time.Duration) time.Duration { return bound },
				Wait:    func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil },
				OnRetry: func(envelope.KMSErrorKind) { told++ },
			})
			var err error
			if call == "generate" {
				_, _, _, err = k.Generate(t.Context(), envelope.Context{})
			} else {
				_, err = k.Unwrap(t.Context(), "k", nil, envelope.Context{})
			}
			var e *envelope.KMSError
			if c.kind == 0 && err != nil || c.kind != 0 && (!errors.As(err, &e) || e.Kind != c.kind) {
				t.Errorf("%s, %s: got %v, want %v", name, call, err, c.kind)
			}
			if script.calls != c.calls || !slices.Equal(waits, c.waits) || told != len(c.waits) {
				t.Errorf("%s, %s: got %d calls, waits %v; want %d, %v", name, call, script.calls, waits, c.calls, c.waits)
			}
		}
	}
}

func TestRetryContext(t *testing.T) {
	away := kmsErr(envelope.KMSUnavailable)
	synctest.Test(t, func(t *testing.T) {
		script := &scriptKMS{errs: []error{away, away, away, away}}
		wide := func(time.Duration) time.Duration { return time.Minute }
		k := envelope.Retry(script, envelope.RetryConfig{MaxRetries: 3, Jitter: wide})

		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := k.Unwrap(ctx, "k", nil, envelope.Context{})
		var e *envelope.KMSError
		if !errors.As(err, &e) || script.calls != 1 || time.Since(begun) != 0 {
			t.Errorf("a wait past the deadline: got %v after %d calls and %v; want the first error at once", err, script.calls, time.Since(begun))
		}

		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err = k.Unwrap(ctx, "k", nil, envelope.Context{})
		if !errors.As(err, &e) || script.calls != 2 || time.Since(begun) != time.Second {
			t.Errorf("cancelled in a wait: got %v after %d calls and %v", err, script.calls, time.Since(begun))
		}

		if _, err = k.Unwrap(t.Context(), "k", nil, envelope.Context{}); err != nil || time.Since(begun) != time.Second+2*time.Minute {
			t.Errorf("got %v after %v, want success after two waits", err, time.Since(begun))
		}
	})
}

// TestRetryJitter: the wait is anywhere from nothing to the bound.
func TestRetryJitter(t *testing.T) {
	const bound = time.Second
	var least, most time.Duration = bound, 0
	for range 200 {
		k := envelope.Retry(&scriptKMS{errs: []error{kmsErr(envelope.KMSThrottled)}}, envelope.RetryConfig{
			MaxRetries: 1, Base: bound,
			Wait: func(_ context.Context, d time.Duration) error {
				least, most = min(least, d), max(most, d)
				return nil
			},
		})
		if _, err := k.Unwrap(t.Context(), "k", nil, envelope.Context{}); err != nil {
			t.Fatal(err)
		}
	}
	if least < 0 || least > bound/4 || most > bound || most < bound*3/4 {
		t.Errorf("200 waits lie from %v to %v, want all of 0 to %v", least, most, bound)
	}
}
