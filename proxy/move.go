// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

const (
	// moveTimeout bounds the log-in to the primary and all that is asked of it.
	moveTimeout = 10 * time.Second
	// stateTimeout bounds what is asked of the leg that the session leaves: a
	// leg that does not answer is broken.
	stateTimeout = 10 * time.Second
	// primaryRetry is how long a primary that took no session is left alone.
	primaryRetry = 100 * time.Millisecond
)

// What the node asks the server of a session before and after a move. All names
// are qualified: the session's search_path may be hostile.
const (
	sessionQuery = `SELECT kind, name, value, detail FROM vault.session_state()`

	// reportedQuery reads the settings that a server tells its clients of, in the
	// form in which it does, and the isolation in which a batch runs. Whether it is
	// a standby is not among them: of that the client is told what is true of the
	// server beside its node.
	reportedQuery = `SELECT name, setting FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) ANY (` +
		`'{application_name,client_encoding,DateStyle,default_transaction_isolation,default_transaction_read_only,integer_datetimes,IntervalStyle,` +
		`scram_iterations,server_encoding,server_version,standard_conforming_strings,TimeZone}'::pg_catalog.text[])`

	setQuery = `SELECT pg_catalog.set_config($1, $2, false)`
)

// A carried is what a session has, as its server says.
type carried struct {
	state    [][][]byte // of vault.session_state(), without what is the node's
	reported [][][]byte
	unnamed  []byte // the Parse of the unnamed statement; nil: there is none
}

// move takes the session from its standby to the primary, with all that it has.
// failed says why it stays, as it was. Only the back calls it, when nothing is
// owed and no block is open, with smu held: the front may not have returned from a
// write that was answered, and may have something that nobody answers. batch: reads
// of an open batch have run here; fresh: the session has run nothing.
func (ss *session) move(batch, fresh bool) (failed *sqlError, err error) {
	ctx := ss.operate(opBack)
	defer ss.operated(opBack)
	has, failed, err := ss.pack(batch, fresh)
	if failed == nil && err == nil {
		var l *serverLogin
		if l, failed, err = ss.logInToPrimary(ctx, has); l != nil {
			return nil, ss.settleIn(l, has)
		}
	}
	if failed != nil && errors.Is(ctx.Err(), context.Canceled) {
		failed = errCanceled
	}
	outcome := "refused"
	if err != nil {
		outcome = "broken"
	}
	ss.srv.metrics.moves.WithLabelValues(outcome).Inc()
	return failed, err
}

// pack asks the server that the session leaves what it has.
func (ss *session) pack(batch, fresh bool) (*carried, *sqlError, error) {
	ss.mu.Lock()
	has := &carried{}
	if ss.unnamedKept {
		has.unnamed = ss.unnamedParse
	}
	lost := ss.unnamedLost
	known := ss.catalog.has()
	ss.mu.Unlock()
	switch {
	case !known && !fresh:
		return nil, stays("the database has no vault, so the node cannot tell what the session has set",
			"Write first in a new session, connect to the node beside the primary, or CREATE EXTENSION hyperion_vault in this database."), nil
	case lost:
		return nil, stays("the unnamed statement is longer than the node keeps", "Use a named one, or parse it anew."), nil
	}
	l := ss.server()
	var x errand
	if !fresh {
		x.query(ss.own, sessionQuery)
	}
	x.query(ss.own, reportedQuery)
	x.sync()
	l.SetDeadline(time.Now().Add(stateTimeout)) //nolint:errcheck // a broken connection shows at once
	results, err := x.do(l, ss.srv.limits().MaxQuery, ss.meanwhile(&ss.reported))
	l.SetDeadline(time.Time{}) //nolint:errcheck // as above
	var asked *askError
	switch {
	case errors.As(err, &asked) && asked.code == stateNoFunction:
		return nil, stays("the extension hyperion_vault in this database is older than 1.1", "ALTER EXTENSION hyperion_vault UPDATE"), nil
	case errors.As(err, &asked) && asked.code == stateCanceled: // the client's statement was meant, or has taken too long
		return nil, &sqlError{code: asked.code, message: asked.message}, nil
	case errors.As(err, &asked):
		return nil, stays("the server did not say what the session has set: "+asked.Error(), ""), nil
	case err != nil:
		ss.srv.cfg.Log.Debug("the leg to the standby broke", "error", err.Error())
		return nil, nil, fatalError(stateConnection, "the connection to the server was lost", "")
	}
	if !fresh {
		has.state, results = ss.ours(results[0]), results[1:]
	}
	has.reported = results[0]
	return has, has.immovable(batch), nil
}

// meanwhile passes on what a server says by itself while the node asks it.
func (ss *session) meanwhile(r *reported) func(typ byte, body []byte) {
	return func(typ byte, body []byte) {
		ss.mu.Lock()
		defer ss.mu.Unlock()
		if typ == wire.ParameterStatus {
			r.note(body)
		}
		if r == &ss.reported {
			ss.reserve(len(body) + wire.HeaderSize)
			ss.out = wire.AppendMessage(ss.out, typ, body)
		}
	}
}

// ours leaves out the node's own statement.
func (ss *session) ours(state [][][]byte) [][][]byte {
	return slices.DeleteFunc(state, func(r [][]byte) bool {
		return len(r) != 4 || (string(r[0]) == "parse" && string(r[1]) == ss.own)
	})
}

// immovable says what of the session has no copy elsewhere.
func (c *carried) immovable(batch bool) *sqlError {
	var what []string
	for _, r := range c.state {
		if string(r[0]) == "immovable" {
			what = append(what, immovableWords[string(r[1])]+" "+string(r[2]))
		}
	}
	if len(what) > 0 {
		return stays("the session holds what only its server has: "+strings.Join(what, ", "),
			"Let go of it, or connect to the node beside the primary.")
	}
	if batch && !slices.ContainsFunc(c.reported, func(r [][]byte) bool {
		return string(r[0]) == "default_transaction_isolation" && string(r[1]) == "read committed"
	}) {
		return stays("the batch has read at the standby, in a transaction that sees one moment", "Send the write as a batch of its own, or begin a block.")
	}
	return nil
}

var immovableWords = map[string]string{
	"setting": "setting", "advisory_lock": "advisory lock", "cursor": "cursor WITH HOLD", "library": "library",
	"listen": "LISTEN", "temp_object": "temporary object",
}

// logInToPrimary makes a leg to the primary that is equal to the one the session
// leaves. It goes on looking while there is none, for as long as
// VAULT_PRIMARY_WAIT says. A nil login with a nil failed is an error.
func (ss *session) logInToPrimary(ctx context.Context, has *carried) (*serverLogin, *sqlError, error) {
	wait := time.Now().Add(ss.srv.cfg.PrimaryWait)
	ctx, stop := context.WithTimeout(ctx, ss.srv.cfg.PrimaryWait+moveTimeout)
	defer stop()
	for {
		p, err := ss.srv.cfg.Vault.AwaitPrimary(ctx, time.Until(wait))
		if err != nil {
			return nil, stays("no server of VAULT_PG_HOSTS is the primary now", "Try again."), nil
		}
		l, failed, passing := ss.tryPrimary(ctx, p, has)
		if failed == nil {
			return l, nil, nil
		}
		if !passing || ctx.Err() != nil || time.Until(wait) < primaryRetry {
			return nil, failed, nil
		}
		ss.srv.cfg.Vault.DoubtPrimary(p)
		select {
		case <-time.After(primaryRetry):
		case <-ctx.Done():
		}
	}
}

// tryPrimary logs in to what is said to be the primary. passing: that it failed
// may be for the primary's sake, which may be another one soon.
func (ss *session) tryPrimary(ctx context.Context, p vault.Primary, has *carried) (l *serverLogin, failed *sqlError, passing bool) {
	l, err := ss.logIn(ctx, ss.srv.upstream(p.Server))
	if err != nil {
		return ss.notLetIn(p, err)
	}
	defer func() {
		if failed != nil {
			l.leg.drop()
			l = nil
		}
	}()
	defer context.AfterFunc(ctx, func() { l.leg.SetDeadline(longAgo) })() //nolint:errcheck // closed then
	if failed, passing = ss.unpack(l, has); failed == nil {
		failed, passing = ss.inspect(l, p, has)
	}
	return l, failed, passing
}

// notLetIn says why the primary did not take the session.
func (ss *session) notLetIn(p vault.Primary, err error) (l *serverLogin, failed *sqlError, passing bool) {
	var fatal *serverFatal
	var mine *sqlError
	why := "it cannot be reached"
	switch {
	case errors.As(err, &fatal):
		e := readAskError(fatal.body)
		passing = e.code == stateCannotConnect || strings.HasPrefix(e.code, "57P")
		why = e.Error()
	case errors.As(err, &mine):
		why = mine.message
		passing = mine == errClosedAtLogin
	default:
		passing = true
	}
	return nil, stays("the primary at "+p.Addr+" did not let the session in: "+why, ""), passing
}

// unpack gives the leg what the session has: settings in the server's order, then
// prepared statements. passing: the connection broke.
func (ss *session) unpack(l *serverLogin, has *carried) (failed *sqlError, passing bool) {
	var x errand
	note := ss.meanwhile(&l.reported)
	flush := func(what string) *sqlError {
		if _, err := x.do(l.leg, ss.srv.limits().MaxQuery, note); err != nil {
			var asked *askError
			passing = !errors.As(err, &asked)
			return stays("the primary did not take "+what+" of the session: "+err.Error(), "")
		}
		return nil
	}
	settings := has.kind("setting")
	for chunk := range slices.Chunk(settings, 64) {
		x.msgs = wire.AppendParse(wire.AppendClose(x.msgs, 'S', ss.own), ss.own, setQuery, wire.OIDText, wire.OIDText)
		for _, r := range chunk {
			x.run(ss.own, r[1], r[2])
		}
		x.msgs = wire.AppendClose(x.msgs, 'S', ss.own)
		x.sync()
		if failed := flush("a setting"); failed != nil {
			return failed, passing
		}
	}
	for _, r := range has.kind("prepare") {
		x.simple(string(r[2]))
		if failed := flush("a prepared statement"); failed != nil {
			return failed, passing
		}
	}
	for chunk := range slices.Chunk(has.kind("parse"), 64) {
		for _, r := range chunk {
			x.msgs = wire.AppendParse(x.msgs, string(r[1]), string(r[2]), oids(string(r[3]))...)
		}
		x.sync()
		if failed := flush("a prepared statement"); failed != nil {
			return failed, passing
		}
	}
	if has.unnamed != nil {
		x.msgs = wire.AppendMessage(x.msgs, wire.Parse, has.unnamed)
		x.sync()
		failed = flush("the unnamed statement")
	}
	return failed, passing
}

// kind are the rows of one kind.
func (c *carried) kind(kind string) (rows [][][]byte) {
	for _, r := range c.state {
		if string(r[0]) == kind {
			rows = append(rows, r)
		}
	}
	return rows
}

// oids reads an array of OIDs.
func oids(array string) (list []uint32) {
	for s := range strings.SplitSeq(strings.Trim(array, "{}"), ",") {
		if s != "" {
			list = append(list, oid(s))
		}
	}
	return list
}

// inspect compares the new leg with the old one, and its server with the one that
// was looked for.
func (ss *session) inspect(l *serverLogin, p vault.Primary, has *carried) (failed *sqlError, passing bool) {
	var x errand
	x.query(ss.own, vault.SQLClaim)
	x.query(ss.own, catalogQuery)
	x.query(ss.own, reportedQuery)
	if has.state != nil {
		x.query(ss.own, sessionQuery)
	}
	x.sync()
	results, err := x.do(l.leg, ss.srv.limits().MaxQuery, ss.meanwhile(&l.reported))
	if err != nil {
		return stays("the primary at "+p.Addr+" does not answer: "+err.Error(), ""), true
	}
	claim, catalogRow := results[0], results[1]
	timeline, confirmed := uint32(0), false
	if len(claim) == 1 && len(claim[0]) == 1 {
		timeline, confirmed = p.Confirm(string(claim[0][0]))
	}
	if !confirmed {
		return stays("the server at "+p.Addr+" is not the primary any more", ""), true
	}
	l.leg.timeline = timeline
	if len(catalogRow) != 1 || len(catalogRow[0]) != catalogColumns || string(catalogRow[0][catalogColumns-1]) != strconv.FormatUint(uint64(l.leg.pid), 10) {
		return stays("between this node and the primary is a pooler", "Point VAULT_PG_HOSTS on the node at the servers themselves."), false
	}
	l.catalog.read(catalogRow[0])
	l.tells = results[2]
	if has.state != nil && !sameRows(has.state, ss.ours(results[3])) {
		return stays("the session would not be the same at the primary as it is here", "Its prepared statements and settings do not carry over; connect to the node beside the primary."), false
	}
	return nil, false
}

// settleIn goes on with the new leg. The client hears of the settings that are
// others there.
func (ss *session) settleIn(l *serverLogin, has *carried) error {
	if err := l.leg.SetDeadline(time.Time{}); err != nil {
		return err
	}
	old := ss.server()
	ss.mu.Lock()
	if ss.ended {
		ss.mu.Unlock()
		l.leg.drop()
		return errEnded
	}
	ss.use(l.leg)
	ss.reported, ss.catalog, ss.state = l.reported, l.catalog, wire.Idle
	ss.doubtful, ss.seen = false, nil
	ss.forgetUnnamed()
	for _, r := range l.tells {
		if string(r[0]) != "default_transaction_isolation" && !slices.ContainsFunc(has.reported, func(q [][]byte) bool { return sameRows([][][]byte{q}, [][][]byte{r}) }) {
			ss.out = wire.AppendMessage(ss.out, wire.ParameterStatus, slices.Concat(r[0], []byte{0}, r[1], []byte{0}))
		}
	}
	ss.mu.Unlock()
	old.drop()
	if ss.replaced(ss.srv.fence()) {
		return errReplaced
	}
	ss.srv.metrics.moves.WithLabelValues("ok").Inc()
	return nil
}
