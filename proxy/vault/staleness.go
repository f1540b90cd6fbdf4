// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// sqlWritten asks a primary who it is and where its next record goes. A standby
	// has nothing to say but the first.
	sqlWritten = `SELECT pg_catalog.concat_ws(' ', s.system_identifier, w.file_name, p.lsn, w.file_offset)
 FROM pg_catalog.pg_control_system() s,
 (SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_insert_lsn() END AS lsn) p,
 LATERAL pg_catalog.pg_walfile_name_offset(p.lsn) w`

	// replayTTL is how long it is believed that the local server still shows what
	// it was seen to show: one that has crashed may show less at first.
	replayTTL = 2 * time.Second

	// maxSamples bounds what is remembered of the primary.
	maxSamples = 64
)

// A sample is what the primary had written at a time.
type sample struct {
	at       time.Time // before it was asked
	position uint64
	timeline uint32
}

// parseSample reads what a server says to sqlWritten. false: it is not this
// primary, or not any more.
func parseSample(p Primary, at time.Time, text string) (sample, bool) {
	f := strings.Fields(text)
	if len(f) != 4 || f[0] != p.System || len(f[1]) < 8 {
		return sample{}, false
	}
	timeline, err := strconv.ParseUint(f[1][:8], 16, 32)
	position, ok := parsePosition(f[2] + " " + f[3])
	return sample{at: at, position: position, timeline: uint32(timeline)}, ok && err == nil && uint32(timeline) >= p.Timeline
}

// written remembers what the primary had written when, as far back as it takes to
// say how old is what the local server shows.
type written struct {
	mu      sync.Mutex
	samples []sample // oldest first
}

// add makes room, if there is none, by forgetting every second sample: the longer
// ago, the rougher.
func (w *written) add(s sample) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.samples) == maxSamples {
		for i := range maxSamples / 2 {
			w.samples[i] = w.samples[2*i]
		}
		w.samples = w.samples[:maxSamples/2]
	}
	w.samples = append(w.samples, s)
}

// shown returns the latest time at which the primary had written no more than r
// shows. What was before needs not be remembered.
func (w *written) shown(r *replayed) (at time.Time, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.samples) - 1; i >= 0; i-- {
		if s := w.samples[i]; r.shows(s.position, s.timeline) {
			w.samples = append(w.samples[:0], w.samples[i:]...)
			return s.at, true
		}
	}
	return time.Time{}, false
}

// newest is the last sample, or the zero one.
func (w *written) newest() (s sample) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.samples); n > 0 {
		s = w.samples[n-1]
	}
	return s
}

// staleness is how old is what r shows to who knows that the server has not crashed
// since a time. false: nobody knows.
func (v *Vault) staleness(r *replayed, since time.Time) (age time.Duration, known bool) {
	switch {
	case !r.after(since) || elapsed(r.at) > replayTTL:
		return 0, false
	case r.primary:
		return 0, !v.LocalReplaced()
	}
	at, known := v.written.shown(r)
	return elapsed(at), known
}

// elapsed also counts the time for which the machine was suspended, which the
// monotonic clock leaves out.
func elapsed(since time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}

// Staleness is how old is what the server beside this node shows of the primary,
// as it was seen last. false: that is not known; it never is without
// Config.MaxStaleness. It does no I/O.
func (v *Vault) Staleness() (age time.Duration, known bool) {
	return v.staleness(v.replay.Load(), time.Time{})
}

// checkFresh refuses to open what the local server has read if that is older than
// Config.MaxStaleness, or another one has replaced it as the primary.
func (v *Vault) checkFresh(ctx context.Context, a Actor) *Error {
	if a.Moved {
		return nil
	}
	if replaced := v.checkReplaced(); replaced != nil || v.maxStaleness == 0 {
		return replaced
	}
	age, known := v.staleness(v.replay.Load(), a.Since)
	if !known || age > v.maxStaleness {
		r := v.askLocal(ctx, a.Since)
		// It may follow a primary that was not asked yet, and the watch may be late.
		if last := v.written.newest(); r != nil && !r.primary && (r.timeline > last.timeline || elapsed(last.at) > v.maxStaleness/2) {
			v.askWritten(ctx)
			r = v.askLocal(ctx, a.Since)
		}
		age, known = v.staleness(r, a.Since)
	}
	switch {
	case known && age <= v.maxStaleness:
		return nil
	case ctx.Err() != nil:
		return canceled("", ctx.Err())
	}
	return v.stale(age, known)
}

func (v *Vault) stale(age time.Duration, known bool) *Error {
	e := &Error{
		Kind:   KindStale,
		Msg:    fmt.Sprintf("the standby beside node %q is too far behind the primary for secrets to be opened", v.node),
		Detail: fmt.Sprintf("What it shows is %.1f s old; VAULT_MAX_STALENESS is %s.", age.Seconds(), v.maxStaleness),
		Hint:   "Try again when it has caught up, or connect to another node.",
	}
	if !known {
		e.Detail = fmt.Sprintf("How old what it shows is cannot be told; VAULT_MAX_STALENESS is %s.", v.maxStaleness)
	}
	return e
}

// watchStaleness asks the primary what it has written and the local server what it
// shows, until ctx ends, and logs once when the bound is passed and when it is not
// any more. Without a bound nobody is asked.
func (v *Vault) watchStaleness(ctx context.Context) {
	if v.maxStaleness == 0 {
		return
	}
	tick := time.NewTicker(min(primaryWatch, v.maxStaleness/4))
	defer tick.Stop()
	late, knownAt := false, time.Now()
	for {
		if r := v.replay.Load(); r == nil || !r.primary {
			v.askWritten(ctx)
		}
		age, known := v.staleness(v.askLocal(ctx, time.Time{}), time.Time{})
		now := late
		switch {
		case known:
			now, knownAt = age > v.maxStaleness, time.Now()
		case time.Since(knownAt) > v.maxStaleness:
			now = true
		}
		switch {
		case now == late || ctx.Err() != nil:
		case now:
			late = true
			v.log.WarnContext(ctx, "the standby is too far behind the primary: secrets are not opened", "staleness", age.String(), "known", known, "max_staleness", v.maxStaleness.String())
		default:
			late = false
			v.log.InfoContext(ctx, "the standby has caught up: secrets are opened", "staleness", age.String())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// askWritten takes a sample.
func (v *Vault) askWritten(ctx context.Context) {
	done := v.askShared(ctx, "written", primaryTimeout, func(ctx context.Context) (any, error) { return nil, v.takeSample(ctx) })
	select {
	case <-done: // what it finds is kept
	case <-ctx.Done():
	}
}

// takeSample asks the primary by a connection of its own: that of the witness
// waits for those who do not answer. One call runs at a time.
func (v *Vault) takeSample(ctx context.Context) error {
	p, err := v.Primary(ctx)
	if err != nil {
		return err
	}
	w := v.writer.Load()
	if w == nil || w.at != p.Server {
		if w != nil {
			w.close()
		}
		w = &witness{at: p.Server}
		v.writer.Store(w)
	}
	ctx, cancel := context.WithTimeout(ctx, hostTimeout)
	defer cancel()
	at := time.Now()
	text, err := v.askText(ctx, w, sqlWritten)
	if err != nil {
		return err
	}
	if s, ok := parseSample(p, at, text); ok {
		v.written.add(s)
	}
	return nil
}
