// SPDX-License-Identifier: GPL-3.0-or-later

package envelope

import (
	"context"
	"math/rand/v2"
	"time"
)

// RetryConfig says how often and how patiently a KMS call is repeated. The zero
// value never retries.
type RetryConfig struct {
	MaxRetries int           // after the first try
	Base       time.Duration // bound of the first wait; default 50 ms
	Max        time.Duration // bound of every wait; default 2 s
	// Jitter picks the wait, from 0 to bound; default uniform ("full jitter":
	// nodes that failed together must not come back together).
	Jitter func(bound time.Duration) time.Duration
	// Wait pauses for d or until ctx ends, whose error it then returns; default a timer.
	Wait func(ctx context.Context, d time.Duration) error
	// OnRetry, if set, is told of each retry before its wait; for metrics.
	OnRetry func(kind KMSErrorKind)
}

// Retry wraps a KMS so that retryable failures are tried again, with exponential
// backoff and full jitter. It gives up when the context's deadline would come
// before the end of the wait. The error is the last call's.
func Retry(k KMS, c RetryConfig) KMS {
	if c.Base <= 0 {
		c.Base = 50 * time.Millisecond
	}
	if c.Max <= 0 {
		c.Max = 2 * time.Second
	}
	if c.Jitter == nil {
		c.Jitter = func(bound time.Duration) time.Duration {
			return time.Duration(rand.Int64N(int64(bound) + 1)) //nolint:gosec // spreads load, hides nothing
		}
	}
	if c.Wait == nil {
		c.Wait = wait
	}
	return &retrying{kms: k, c: c}
}

type retrying struct {
	kms KMS
	c   RetryConfig
}

func (r *retrying) Generate(ctx context.Context, c Context) (plain, wrapped []byte, keyID string, err error) {
	err = r.do(ctx, func() (err error) {
		plain, wrapped, keyID, err = r.kms.Generate(ctx, c)
		return err
	})
	return plain, wrapped, keyID, err
}

func (r *retrying) Unwrap(ctx context.Context, keyID string, wrapped []byte, c Context) (plain []byte, err error) {
	err = r.do(ctx, func() (err error) {
		plain, err = r.kms.Unwrap(ctx, keyID, wrapped, c)
		return err
	})
	return plain, err
}

// do returns nil or a *KMSError.
func (r *retrying) do(ctx context.Context, call func() error) error {
	bound := min(r.c.Base, r.c.Max)
	for try := 0; ; try++ {
		err := call()
		if err == nil {
			return nil
		}
		e := kmsError(err)
		if try >= r.c.MaxRetries || !e.Kind.Retryable() || ctx.Err() != nil {
			return e
		}
		d := r.c.Jitter(bound)
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
			return e
		}
		if r.c.OnRetry != nil {
			r.c.OnRetry(e.Kind)
		}
		if r.c.Wait(ctx, d) != nil {
			return e
		}
		bound = min(bound*2, r.c.Max)
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
