// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// What asks the local server how far it has come, and on which timeline.
const (
	sqlReplayed = `SELECT pg_catalog.concat_ws(' ', r.lsn, r.timeline, pg_catalog.pg_is_in_recovery()) FROM vault.replayed() r`

	// sqlReplayedBefore is for an extension that has no vault.replayed(), and says
	// whether it has one by now. What follows a promotion reaches the control file
	// late, and never too early.
	sqlReplayedBefore = `SELECT pg_catalog.concat_ws(' ', CASE WHEN pg_catalog.pg_is_in_recovery()
 THEN pg_catalog.pg_last_wal_replay_lsn() ELSE 'FFFFFFFF/FFFFFFFF'::pg_catalog.pg_lsn END,
 GREATEST(c.timeline_id, r.min_recovery_end_timeline), pg_catalog.pg_is_in_recovery(), pg_catalog.to_regprocedure('vault.replayed()') IS NOT NULL)
 FROM pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_recovery() r`
)

// replayed is what the local server was seen to have replayed.
type replayed struct {
	at       time.Time // before it was asked
	position uint64
	timeline uint32
	primary  bool
}

// SQLPosition asks a primary where its next record goes, for [Vault.Replayed].
const SQLPosition = `SELECT pg_catalog.concat_ws(' ', p.lsn, w.file_offset)
 FROM pg_catalog.pg_current_wal_insert_lsn() p(lsn), LATERAL pg_catalog.pg_walfile_name_offset(p.lsn) w`

// Replayed reports whether the local server was seen, after since, to show all that
// was in the primary's WAL up to a position of a timeline: what that answered to
// SQLPosition. A server that has crashed may show less than before: who has had a
// connection to it since then knows that it has not. Nobody asks the server while
// nobody wants to know, and one asks for all who do.
func (v *Vault) Replayed(ctx context.Context, position string, timeline uint32, since time.Time) bool {
	want, ok := parsePosition(position)
	if !ok {
		return false
	}
	if r := v.replay.Load(); r.after(since) && r.shows(want, timeline) {
		return true
	}
	r := v.askLocal(ctx, since)
	return r.after(since) && r.shows(want, timeline)
}

// askLocal is askReplayed for all who come meanwhile; once more for whom that was
// asked too early.
func (v *Vault) askLocal(ctx context.Context, since time.Time) *replayed {
	r := v.joinLocal(ctx)
	if r != nil && !r.after(since) {
		r = v.joinLocal(ctx)
	}
	return r
}

func (v *Vault) joinLocal(ctx context.Context) *replayed {
	answer := v.askShared(ctx, "replayed", hostTimeout, func(ctx context.Context) (any, error) { return v.askReplayed(ctx), nil })
	select {
	case a := <-answer:
		r, _ := a.Val.(*replayed) // nil: it did not answer
		return r
	case <-ctx.Done():
		return nil
	}
}

// after reports whether the local server was asked after a time.
func (r *replayed) after(since time.Time) bool { return r != nil && r.at.After(since) }

// shows compares. A position of another timeline's says nothing.
func (r *replayed) shows(want uint64, timeline uint32) bool {
	return r.timeline == timeline && r.position >= want
}

// askReplayed asks the local server and keeps the answer; nil: it gives none. It
// asks again if the extension is of another version than before: that comes by
// replay, without a sign. One call runs at a time.
func (v *Vault) askReplayed(ctx context.Context) *replayed {
	for range 2 {
		sql := sqlReplayedBefore
		if v.tellsReplayed {
			sql = sqlReplayed
		}
		at := time.Now()
		text, err := v.store.textWithin(ctx, hostTimeout, sql)
		var pg *pgconn.PgError
		if v.tellsReplayed && errors.As(err, &pg) && (pg.Code == "42883" || pg.Code == "3F000") {
			v.tellsReplayed = false
			continue
		}
		if err != nil || text == nil {
			return nil
		}
		r, tells := parseReplayed(*text)
		if tells {
			v.tellsReplayed = true
			continue
		}
		if r != nil {
			r.at = at
			v.replay.Store(r)
		}
		return r
	}
	return nil
}

// parseReplayed reads an answer; nil: it is none. tells: vault.replayed() is there,
// and was not asked.
func parseReplayed(text string) (r *replayed, tells bool) {
	f := strings.Fields(text)
	if len(f) < 3 {
		return nil, false
	}
	tli, err := strconv.ParseUint(f[1], 10, 32)
	position, ok := parseLSN(f[0])
	if err != nil || !ok {
		return nil, false
	}
	r = &replayed{position: position, timeline: uint32(tli), primary: f[2] == "f"}
	if r.primary {
		r.position = math.MaxUint64 // it shows all that it has, also what comes next
	}
	return r, len(f) == 4 && f[3] == "t"
}

// parsePosition reads an answer to SQLPosition. Directly behind a page's header,
// the long one of a segment's first page too, it counts as the page's beginning:
// the record before ends there, and an idle cluster never comes further.
func parsePosition(s string) (uint64, bool) {
	const page, header, long = 8192, 24, 40
	lsn, place, _ := strings.Cut(s, " ")
	n, ok := parseLSN(lsn)
	offset, err := strconv.ParseUint(place, 10, 32) // in the segment
	switch {
	case offset == long:
		n -= long
	case offset%page == header:
		n -= header
	}
	return n, ok && err == nil
}

// parseLSN reads a pg_lsn: two numbers of 32 bits.
func parseLSN(s string) (uint64, bool) {
	high, low, ok := strings.Cut(s, "/")
	h, err := strconv.ParseUint(high, 16, 32)
	l, err2 := strconv.ParseUint(low, 16, 32)
	return h<<32 | l, ok && err == nil && err2 == nil
}
