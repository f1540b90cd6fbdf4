// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

const (
	// moveTimeout bounds the log-in to the primary and all that is asked of it.
	moveTimeout = 5 * time.Second
	// stateTimeout bounds what is asked of the leg that the session leaves: a
	// leg that does not answer is broken.
	stateTimeout = 5 * time.Second
	// primaryRetry is how long a primary that took no session is left alone.
	primaryRetry = 100 * time.Millisecond
	// primaryLook is how often a session that waits for a primary looks whether that was
	// replaced, which the node asks once a second.
	primaryLook = 500 * time.Millisecond
)

// move takes the session from its standby to the primary, with all that it has.
// failed says why it stays, as it was. Only the back calls it, when nothing is
// owed and no block is open, with smu held: the front may not have returned from a
// write that was answered, and may have something that nobody answers. batch: reads
// of an open batch have run here, which ends; fresh: the session has run nothing;
// without: statements to be left behind.
func (ss *session) move(batch, fresh bool, without []string) (failed *sqlError, err error) {
	ctx := ss.operate(opBack)
	defer ss.operated(opBack)
	defer ss.unload()
	has, failed, err := ss.pack(batch, fresh, without)
	if failed == nil && err == nil {
		var l *serverLogin
		if l, failed = ss.logInToPrimary(ctx, has); l != nil {
			return nil, ss.settleIn(l, has)
		}
	}
	if failed != nil && errors.Is(ctx.Err(), context.Canceled) {
		failed = errCanceled
	}
	ss.stayed("primary", failed, err)
	return failed, err
}

// stayed notes a move that did not come about.
func (ss *session) stayed(to string, failed *sqlError, err error) {
	outcome := "refused"
	if err != nil {
		outcome = "broken"
	}
	ss.srv.metrics.moves.WithLabelValues(to, outcome).Inc()
	if failed == nil {
		return
	}
	ss.mu.Lock()
	ss.why = "to the " + to + ": " + cmp.Or(failed.detail, failed.message)
	ss.mu.Unlock()
}

// goHome takes the session from the primary back to its standby, as move does, if
// that shows all that the session may have seen.
func (ss *session) goHome() (failed *sqlError, err error) {
	ctx := ss.operate(opBack)
	defer ss.operated(opBack)
	defer ss.unload()
	ctx, stop := context.WithTimeout(ctx, moveTimeout)
	defer stop()
	has, failed, err := ss.pack(false, false, nil)
	if failed == nil && err == nil && has.isolation() == "serializable" {
		failed = errSerializable
	}
	replayed := func(since time.Time) bool {
		return ss.srv.cfg.Vault.Replayed(ctx, has.position, ss.server().timeline, since)
	}
	if failed == nil && err == nil && !replayed(time.Time{}) { // spares a log-in
		failed = errBehind
	}
	if failed == nil && err == nil {
		l := ss.takeSpare(ss.srv.local.Server)
		used := l != nil
		if !used {
			l, err = ss.logIn(ctx, ss.srv.local)
		}
		switch {
		case err != nil: // the session goes on where it is
			failed, err = stays("the server beside the node did not let it in", ""), nil
		default:
			if failed, _ = ss.fit(ctx, l, used, nil, has); failed == nil {
				if replayed(l.leg.since) {
					return nil, ss.settleIn(l, has)
				}
				failed = errBehind
				l.leg.drop()
			}
		}
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		failed = errCanceled
	}
	ss.stayed("standby", failed, err)
	return failed, err
}

var (
	errBehind       = stays("the standby is behind", "")
	errSerializable = stays("no transaction at a standby is serializable", "")
)

// settleIn goes on with the new leg. The client hears of the settings that are
// others there.
func (ss *session) settleIn(l *serverLogin, has *carried) error {
	if err := l.leg.SetDeadline(time.Time{}); err != nil {
		return err
	}
	old := &serverLogin{ss: ss, leg: ss.server()}
	ss.mu.Lock()
	if ss.ended {
		ss.mu.Unlock()
		l.leg.drop()
		return errEnded
	}
	old.reported = ss.reported
	ss.use(l.leg)
	l.catalog.bypasses = l.catalog.bypasses || ss.catalog.bypasses // as in refreshCatalog
	ss.reported, ss.catalog, ss.state = l.reported, l.catalog, wire.Idle
	ss.doubtful, ss.seen = false, nil
	ss.unlearn()
	ss.inRole()
	for _, b := range l.reports {
		ss.report(b)
	}
	for _, r := range l.tells {
		if string(r[0]) != "default_transaction_isolation" && !has.tells(r) {
			ss.out = wire.AppendMessage(ss.out, wire.ParameterStatus, slices.Concat(r[0], []byte{0}, r[1], []byte{0}))
		}
	}
	if ss.srv.cfg.Park > 0 && ss.srv.cfg.MoveBack > 0 {
		old, ss.spare, ss.spareSince = ss.spare, old, time.Now()
	}
	ss.restless()
	ss.why = ""
	ss.mu.Unlock()
	if old != nil {
		old.leg.drop()
	}
	if ss.replaced(ss.srv.fence()) {
		return errReplaced
	}
	to := "standby"
	if l.leg.remote() {
		to = "primary"
	}
	ss.srv.metrics.moves.WithLabelValues(to, "ok").Inc()
	return nil
}

// takeSpare gives the leg that the session has left, if it is one to that server.
// A leg to any other is dropped.
func (ss *session) takeSpare(at vault.Server) *serverLogin {
	ss.mu.Lock()
	l := ss.spare
	ss.spare = nil
	ss.mu.Unlock()
	if l != nil && l.leg.at.Server != at {
		l.leg.drop()
		return nil
	}
	return l
}

// expireSpare closes a leg that the session has left for so long.
func (ss *session) expireSpare(limit time.Duration) {
	if !ss.mu.TryLock() {
		return
	}
	l := ss.spare
	if l == nil || time.Since(ss.spareSince) < limit {
		ss.mu.Unlock()
		return
	}
	ss.spare = nil
	ss.mu.Unlock()
	l.leg.drop()
}

// discardSequences closes a leg to the primary that the session has left: what its
// sequences have given cannot be taken from it otherwise. mu is held.
func (ss *session) discardSequences() {
	l := ss.spare
	if l == nil || !l.leg.remote() {
		return
	}
	ss.spare = nil
	ss.srv.beside("closing a connection", l.leg.drop) // it may take its time
}
