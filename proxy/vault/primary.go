// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
)

const (
	// primaryTTL is how long an answer to "who is primary?" is used.
	primaryTTL = 3 * time.Second

	// primaryWatch is how often all servers are asked although nobody wants to know
	// the primary: a server that was replaced has to be found out.
	primaryWatch = time.Second

	// primaryTimeout bounds the asking of all servers.
	primaryTimeout = 3 * time.Second
)

// ErrNoPrimary is reported if no server of VAULT_PG_HOSTS says that it is the
// primary, or only one that another has replaced.
var ErrNoPrimary = errors.New("no server of VAULT_PG_HOSTS is the primary")

// SQLClaim asks a server who it is. Right after a promotion the control file
// still has the old timeline, so a primary's is taken from its WAL.
const SQLClaim = `SELECT pg_catalog.concat_ws(' ', s.system_identifier, r.standby,
 CASE WHEN r.standby THEN pg_catalog.lpad(pg_catalog.to_hex(c.timeline_id), 8, '0')
 ELSE pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8) END)
 FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c,
 (SELECT pg_catalog.pg_is_in_recovery() AS standby) r`

// A claim is what a server says of itself.
type claim struct {
	server   Server
	system   string // the cluster's identifier, which all its servers share
	timeline uint32
	primary  bool
}

// parseClaim reads what SQLClaim says.
func parseClaim(at Server, text string) (claim, bool) {
	f := strings.Fields(text)
	if len(f) != 3 {
		return claim{}, false
	}
	tli, err := strconv.ParseUint(f[2], 16, 32)
	if err != nil || tli == 0 {
		return claim{}, false
	}
	return claim{server: at, system: f[0], timeline: uint32(tli), primary: f[1] == "f"}, true
}

// A fence is what is known of the cluster: who has replaced whom is told by the
// timeline, which each promotion raises.
type fence struct {
	system   string // empty: not known yet
	timeline uint32 // the highest that was seen
}

// choose returns the primary among claims, and what is known now. A server on a
// timeline below one that was seen has been replaced, whatever it says; so has
// the lower of two. A claim of another cluster counts for nothing, and each may be
// that as long as the local server has not told which is ours.
func (f fence) choose(claims []claim) (claim, fence, error) {
	var found claim
	for _, c := range claims {
		if f.system == "" || c.system != f.system {
			continue
		}
		f.timeline = max(f.timeline, c.timeline)
		if c.primary && c.timeline > found.timeline {
			found = c
		}
	}
	if found.timeline == 0 || found.timeline < f.timeline {
		return claim{}, f, ErrNoPrimary
	}
	return found, f, nil
}

// A Primary is the server that takes writes, and what tells it from one that it
// has replaced.
type Primary struct {
	Server
	System   string // the cluster's identifier
	Timeline uint32
}

// Confirm reads what a server says to SQLClaim and returns its timeline. false:
// it is not this primary, or not any more.
func (p Primary) Confirm(text string) (timeline uint32, ok bool) {
	c, ok := parseClaim(p.Server, text)
	return c.timeline, ok && c.primary && c.system == p.System && c.timeline >= p.Timeline
}

type primaryAnswer struct {
	at      time.Time
	primary Primary
	err     error
}

// Primary returns the server that is primary now, as it was seen within the last
// few seconds. ErrNoPrimary: none answered so.
func (v *Vault) Primary(ctx context.Context) (Primary, error) {
	if p := v.primary.Load(); p != nil && time.Since(p.at) < primaryTTL {
		return p.primary, p.err
	}
	return v.askPrimary(ctx)
}

// AwaitPrimary is Primary, but asks on for as long as is given while there is
// none.
func (v *Vault) AwaitPrimary(ctx context.Context, wait time.Duration) (Primary, error) {
	if p := v.primary.Load(); p != nil && p.err == nil && time.Since(p.at) < primaryTTL {
		return p.primary, nil
	}
	deadline := time.Now().Add(wait)
	for {
		p, err := v.askPrimary(ctx)
		if err == nil || ctx.Err() != nil || time.Until(deadline) < primaryAskEvery {
			return p, err
		}
		select {
		case <-time.After(primaryAskEvery):
		case <-ctx.Done():
			return Primary{}, ctx.Err()
		}
	}
}

// primaryAskEvery is how long all servers are left alone while somebody waits for
// a primary.
const primaryAskEvery = 200 * time.Millisecond

// DoubtPrimary makes the next one who wants to know the primary ask: p did not
// take a session, or not a write.
func (v *Vault) DoubtPrimary(p Primary) {
	if known := v.primary.Load(); known != nil && known.primary == p {
		v.primary.CompareAndSwap(known, nil)
	}
}

// askPrimary asks all servers.
func (v *Vault) askPrimary(ctx context.Context) (Primary, error) {
	answer := v.askShared(ctx, "", primaryTimeout, func(ctx context.Context) (any, error) { return v.findPrimary(ctx), nil })
	select {
	case a := <-answer:
		if a.Err != nil {
			return Primary{}, a.Err
		}
		p := a.Val.(*primaryAnswer) //nolint:errcheck,forcetypeassert // as returned above
		return p.primary, p.err
	case <-ctx.Done():
		return Primary{}, ctx.Err()
	}
}

// findPrimary asks all servers and keeps the answer. One call runs at a time.
func (v *Vault) findPrimary(ctx context.Context) *primaryAnswer {
	local := make(chan claim, 1)
	go func() {
		var c claim
		defer func() { local <- c }()
		defer v.rescue(ctx, "asking servers", func() {})
		c = v.localClaim(ctx)
	}()
	claims := v.claims(ctx)
	mine := <-local
	if mine.system != "" && mine.system != v.fence.system { // the first time, or it was made anew
		v.fence = fence{system: mine.system}
	}
	if mine.system != "" {
		v.fence.timeline = max(v.fence.timeline, mine.timeline)
	}
	found, known, err := v.fence.choose(claims)
	v.fence = known
	v.latest.Store(known.timeline)
	if mine.system != "" {
		v.localSaid = mine
	}
	// One that does not answer now may take writes again at any moment.
	v.localReplaced.Store(v.localSaid.primary && v.localSaid.timeline < known.timeline)
	for _, c := range claims {
		if said := (claim{c.server, c.system, c.timeline, true}); c == said && c.timeline < known.timeline && v.replaced != said {
			v.replaced = said
			v.log.WarnContext(ctx, "a server that was replaced says that it is the primary", "server", c.server.Addr,
				"timeline", c.timeline, "latest_timeline", known.timeline)
		}
	}
	a := &primaryAnswer{at: time.Now(), primary: Primary{found.server, found.system, found.timeline}, err: err}
	v.primary.Store(a)
	return a
}

// localClaim is what the server beside this node says; empty if it does not
// answer.
func (v *Vault) localClaim(ctx context.Context) claim {
	text, err := v.store.textWithin(ctx, hostTimeout, SQLClaim)
	if err != nil || text == nil {
		return claim{}
	}
	c, _ := parseClaim(v.local, *text)
	return c
}

// Timeline is the latest that a server of this cluster was seen on; 0: none was
// seen yet. Whoever is on one below has been replaced.
func (v *Vault) Timeline() uint32 { return v.latest.Load() }

// LocalReplaced reports whether the server beside this node says that it is the
// primary, and another one has replaced it.
func (v *Vault) LocalReplaced() bool { return v.localReplaced.Load() }

// checkReplaced refuses to read at the server beside this node if another one has
// replaced it: what was written or revoked there since never comes to it.
func (v *Vault) checkReplaced() *Error {
	if !v.LocalReplaced() {
		return nil
	}
	return &Error{
		Kind: KindServer,
		Msg:  "another server has replaced the one beside this node as the primary",
		Hint: "Connect to another node.",
	}
}

// watchPrimary asks from time to time, until ctx ends. With one server there is
// nothing to find out.
func (v *Vault) watchPrimary(ctx context.Context) {
	if len(v.witnesses) < 2 {
		return
	}
	tick := time.NewTicker(primaryWatch)
	defer tick.Stop()
	for {
		_, _ = v.askPrimary(ctx) // what it finds is kept
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// PrimaryHint is the hint for an error on a standby: where the primary is.
func (v *Vault) PrimaryHint(ctx context.Context) string {
	p, err := v.Primary(ctx)
	if err != nil {
		return "The primary could not be found among VAULT_PG_HOSTS of node \"" + v.node + "\"."
	}
	return "The primary is the server at " + p.Addr + ": connect to the node beside it."
}
