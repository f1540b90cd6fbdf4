// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// logInToPrimary makes a leg to the primary that is equal to the one the session
// leaves. It goes on looking while there is none, for as long as
// VAULT_PRIMARY_WAIT says.
func (ss *session) logInToPrimary(ctx context.Context, has *carried) (*serverLogin, *sqlError) {
	wait := time.Now().Add(ss.srv.cfg.PrimaryWait)
	ctx, stop := context.WithTimeout(ctx, ss.srv.cfg.PrimaryWait+moveTimeout)
	defer stop()
	for {
		p, err := ss.srv.cfg.Vault.AwaitPrimary(ctx, time.Until(wait))
		if err != nil {
			return nil, stays("no server of VAULT_PG_HOSTS is the primary now", tryAgain)
		}
		try, over := ss.whilePrimary(ctx, p)
		l, failed, passing := ss.tryPrimary(try, p, has)
		replaced := errors.Is(context.Cause(try), errOtherPrimary)
		over()
		if failed == nil && l.leg.timeline < ss.srv.cfg.Vault.Timeline() {
			l.leg.drop()
			failed, replaced = stays("the server at "+p.Addr+" is not the primary any more", ""), true
		}
		switch {
		case failed == nil:
			return l, nil
		case ctx.Err() != nil || !replaced && (!passing || time.Until(wait) < primaryRetry):
			return nil, failed
		}
		ss.srv.cfg.Vault.DoubtPrimary(p)
		select {
		case <-time.After(primaryRetry):
		case <-ctx.Done():
		}
	}
}

var errOtherPrimary = errors.New("another server is the primary now")

// whilePrimary returns a context that ends by errOtherPrimary once another server is known
// to have replaced p, which may stand still: until over is called.
func (ss *session) whilePrimary(ctx context.Context, p vault.Primary) (_ context.Context, over func()) {
	ctx, end := context.WithCancelCause(ctx)
	ss.srv.beside("watching the primary", func() {
		tick := time.NewTicker(primaryLook)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if ss.srv.cfg.Vault.Timeline() > p.Timeline {
					end(errOtherPrimary)
				}
			}
		}
	})
	return ctx, func() { end(nil) }
}

// tryPrimary logs in to what is said to be the primary. passing: that it failed
// may be for the primary's sake, which may be another one soon.
func (ss *session) tryPrimary(ctx context.Context, p vault.Primary, has *carried) (l *serverLogin, failed *sqlError, passing bool) {
	if l := ss.takeSpare(p.Server); l != nil {
		if failed, _ = ss.fit(ctx, l, true, &p, has); failed == nil || ctx.Err() != nil {
			return l, failed, true
		}
	}
	l, err := ss.logIn(ctx, ss.srv.upstream(p.Server))
	if err != nil {
		return ss.notLetIn(p, err)
	}
	if failed, passing = ss.fit(ctx, l, false, &p, has); failed != nil {
		return nil, failed, passing
	}
	return l, nil, false
}

// notLetIn says why the primary did not take the session.
func (ss *session) notLetIn(p vault.Primary, err error) (l *serverLogin, failed *sqlError, passing bool) {
	var fatal *serverFatal
	var mine *sqlError
	why, hint := "it cannot be reached", tryAgain
	switch {
	case errors.As(err, &fatal):
		e := readAskError(fatal.body)
		passing = e.code == stateCannotConnect || strings.HasPrefix(e.code, "57P")
		why = e.message + " (" + e.Error() + ")" // of a log-in: it names role and database
		switch {
		case passing:
		case e.code == stateTooMany:
			hint = "A session that writes needs a connection at the primary as well: close others, or raise the role's CONNECTION LIMIT or the server's max_connections, and try again."
		default:
			hint = "What let the session in has changed, there or here: connect again."
		}
	case errors.As(err, &mine):
		why = mine.message
		if passing = mine == errClosedAtLogin; !passing {
			hint = mine.hint
		}
	default:
		passing = true
	}
	return nil, stays("the primary at "+p.Addr+" did not let the session in: "+why, hint), passing
}

const tryAgain = "Try again."

// fit makes a leg equal to the one that the session leaves, and looks whether it
// is. used: the session was there before. A leg that does not fit is dropped.
func (ss *session) fit(ctx context.Context, l *serverLogin, used bool, p *vault.Primary, has *carried) (failed *sqlError, passing bool) {
	l.leg.SetDeadline(deadlineOf(ctx))                                    //nolint:errcheck // a broken connection shows at once
	stop := context.AfterFunc(ctx, func() { l.leg.SetDeadline(longAgo) }) //nolint:errcheck // closed then
	defer func() {
		if !stop() && failed == nil { // the bound may yet be set on what would be in use
			failed, passing = stays("it took too long", tryAgain), false
		}
		if failed != nil {
			l.leg.drop()
		}
	}()
	if used {
		failed, passing = ss.refit(l, has)
	} else {
		failed, passing = ss.unpack(l, has)
	}
	if failed == nil {
		failed, passing = ss.inspect(l, p, has)
	}
	return failed, passing
}

// inspect compares the new leg with the old one, and its server with the primary
// that was looked for; nil: it is the server beside the node.
func (ss *session) inspect(l *serverLogin, p *vault.Primary, has *carried) (failed *sqlError, passing bool) {
	x := ss.errand()
	x.query(ss.own, "SELECT pg_catalog.set_config('jit', 'off', true)") // as at log-in
	x.query(ss.own, vault.SQLClaim)
	x.query(ss.own, catalogQuery)
	x.query(ss.own, reportedQuery)
	x.sync()
	if has.state != nil {
		x.query(ss.own, sessionQuery)
		x.sync()
	}
	results, err := x.do(l.leg, ss.srv.limits().MaxQuery, ss.meanwhile(&l.reported))
	if err != nil {
		return stays("the server at "+l.leg.at.Addr+" does not answer: "+err.Error(), ""), true
	}
	results = results[1:]
	claim, catalogRow := results[0], results[1]
	if p != nil {
		confirmed := false
		if len(claim) == 1 && len(claim[0]) == 1 {
			l.leg.timeline, confirmed = p.Confirm(string(claim[0][0]))
		}
		if !confirmed {
			return stays("the server at "+p.Addr+" is not the primary any more", ""), true
		}
	}
	if len(catalogRow) != 1 || len(catalogRow[0]) != catalogColumns || string(catalogRow[0][catalogColumns-1]) != strconv.FormatUint(uint64(l.leg.pid), 10) {
		return stays("between this node and the server at "+l.leg.at.Addr+" is a pooler", "Point VAULT_PG_HOSTS on the node at the servers themselves."), false
	}
	l.catalog.read(catalogRow[0])
	for _, r := range results[2] { // texts have been looked at under these
		name := string(r[0])
		if (name == "standard_conforming_strings" || name == "client_encoding") && !has.tells(r) {
			return stays("the server at "+l.leg.at.Addr+" has another "+name, "Set it in the session, or make the servers' configurations equal."), false
		}
	}
	l.tells = results[2]
	if has.state != nil && !sameRows(has.state, ss.ours(results[3])) {
		return stays("the session would not be the same there as it is here", "Its prepared statements and settings do not carry over; connect to the node beside the primary."), false
	}
	return nil, false
}

// standbyHint says where the primary is, for a write that a standby refused. mu
// is given up while it is looked for.
func (ss *session) standbyHint(body []byte) string {
	if !ss.standby || !bytes.Contains(body, []byte("\x00C"+stateReadOnly+"\x00")) {
		return ""
	}
	ss.mu.Unlock()
	defer ss.mu.Lock()
	ctx, stop := context.WithTimeout(ss.srv.ctx, hintTimeout)
	defer stop()
	return ss.srv.cfg.Vault.PrimaryHint(ctx)
}

// hintTimeout bounds how long an error waits for its hint.
const hintTimeout = time.Second
