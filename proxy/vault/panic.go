// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
)

// PanicSite names the first frame of ours below a panic, for functions named recovered
// or rescue. What a panic is about is not logged: it may hold a client's bytes.
func PanicSite() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		f, more := frames.Next()
		if strings.Contains(f.Function, "hyperion-vault") && !strings.HasSuffix(f.Function, "recovered") && !strings.HasSuffix(f.Function, "rescue") {
			return fmt.Sprintf("%s:%d", f.Function, f.Line)
		}
		if !more {
			return "unknown"
		}
	}
}

// errPanic stands for a panic that rescue has logged.
var errPanic = errors.New("a panic")

// rescue keeps a panic within what a goroutine does for one job; then says that it
// failed.
func (v *Vault) rescue(ctx context.Context, where string, then func()) {
	if p := recover(); p != nil {
		v.log.LogAttrs(ctx, slog.LevelError, "internal error", slog.String("where", where), slog.String("type", fmt.Sprintf("%T", p)), slog.String("at", PanicSite()))
		then()
	}
}
