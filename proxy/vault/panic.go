// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"
)

// PanicSite names the first frame of ours below a panic, for whoever recovers from it.
// What a panic is about is not logged: it may hold a client's bytes.
func PanicSite() string {
	var pcs [48]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for panicked := false; ; {
		f, more := frames.Next()
		if panicked && strings.Contains(f.Function, "hyperion-vault") {
			return fmt.Sprintf("%s:%d", f.Function, f.Line)
		}
		panicked = panicked || f.Function == "runtime.gopanic"
		if !more {
			return "unknown"
		}
	}
}

// errPanic stands for a panic that rescue has logged.
var errPanic = errors.New("a panic")

// LogPanic logs a panic that somebody has recovered from, by its type and place.
func LogPanic(ctx context.Context, log *slog.Logger, where string, p any) {
	log.LogAttrs(ctx, slog.LevelError, "internal error", slog.String("where", where), slog.String("type", fmt.Sprintf("%T", p)), slog.String("at", PanicSite()))
}

// rescue keeps a panic within what a goroutine does for one job; then says that it
// failed.
func (v *Vault) rescue(ctx context.Context, where string, then func()) {
	if p := recover(); p != nil {
		v.metrics.panics.Inc()
		LogPanic(ctx, v.log, where, p)
		then()
	}
}

// How long work that has met a panic waits.
const (
	againMin = time.Second
	againMax = time.Minute
)

// Steadily does work that goes on until ctx ends, and begins it again after a panic,
// later each time.
func (v *Vault) Steadily(ctx context.Context, where string, work func(context.Context)) {
	for wait := againMin; v.panics(ctx, where, work); wait = min(2*wait, againMax) {
		if !pause(ctx, wait) {
			return
		}
	}
}

// pause waits for d, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// panics reports whether work has met a panic.
func (v *Vault) panics(ctx context.Context, where string, work func(context.Context)) (met bool) {
	defer v.rescue(ctx, where, func() { met = true })
	work(ctx)
	return false
}

// askShared asks for all who come meanwhile, and goes on if its caller leaves. From
// singleflight alone a panic would end the process.
func (v *Vault) askShared(ctx context.Context, key string, timeout time.Duration, ask func(context.Context) (any, error)) <-chan singleflight.Result {
	return v.asking.DoChan(key, func() (answer any, err error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		defer cancel()
		defer v.rescue(ctx, "asking servers", func() { err = errPanic })
		return ask(ctx)
	})
}
