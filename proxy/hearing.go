// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// A session may end while its server still works: the client breaks off, or the node
// does. What the server then does is recorded all the same: its side of the session
// stays open until it has said all, and it is told to stop.

const (
	// hearTimeout bounds how long it is heard, and cancelEvery is how often it is told: each
	// time ends one statement of a pipeline.
	hearTimeout = 2 * time.Second
	cancelEvery = 250 * time.Millisecond
)

// hearOut hears the session's server to its end, or as long as is bearable, records
// what it reports, and closes its side. No relay runs any more.
func (ss *session) hearOut() {
	ss.mu.Lock()
	busy, patience := (ss.queue.len() > 0 || ss.replication) && !ss.serverGone, time.Duration(0)
	if ss.leaving || ss.replication { // it may have sent a statement and not waited
		patience = hearTimeout / 2
	}
	ss.sr.Discard(ss.ahead) // these have been looked at
	ss.ahead = 0
	ss.mu.Unlock()
	l, err := ss.server(), error(nil)
	if busy {
		err = ss.hear(l, patience)
	}
	if err != nil {
		setLinger0(l.Net())
	}
	ss.mu.Lock()
	ss.tended = false
	ss.mu.Unlock()
	l.Close() //nolint:errcheck // nothing depends on it
	if err = errors.Join(err, ss.recordNow()); err != nil {
		ss.srv.grumble.Do(func() {
			ss.srv.cfg.Log.Warn("a session has ended, and what its server did last may not be recorded", "role", ss.user, "client", ss.peerText(), "reason", err.Error())
		})
		ss.abandon(l)
	}
}

// hear reads what the server says, and has its statements cancelled, first after so
// long. No error: it has said all.
func (ss *session) hear(l *leg, patience time.Duration) error {
	until := time.Now().Add(hearTimeout)
	ctx, stop := context.WithDeadline(context.WithoutCancel(ss.srv.ctx), until)
	cancelled := make(chan struct{})
	go func() {
		defer close(cancelled)
		defer ss.srv.recovered("cancel")
		ss.keepCancelling(ctx, l, patience)
	}()
	defer func() { stop(); <-cancelled }()
	l.SetDeadline(until) //nolint:errcheck // a broken connection shows at the next read
	endSending(l.Net())
	for {
		err := ss.hearOne()
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return ended(err)
		case !time.Now().Before(until):
			return err
		default: // somebody ended the session once more
			l.SetDeadline(until) //nolint:errcheck // as above
		}
	}
}

// ended is nil for the error of a connection that the other side has closed: it says
// nothing more.
func ended(err error) error {
	var broken *os.SyscallError
	if errors.As(err, &broken) {
		return nil
	}
	return err
}

// hearOne reads one message and keeps what it reports.
func (ss *session) hearOne() error {
	if err := ss.sr.Skip(); err != nil {
		return err
	}
	typ, size, ok, err := ss.sr.Header(0)
	switch {
	case err != nil:
		return err
	case !ok:
		return ss.sr.Fill()
	case typ != wire.ParameterStatus && typ != wire.ErrorResponse || size > maxWhole:
		ss.mu.Lock()
		ss.queue.answered(typ)
		ss.mu.Unlock()
		return ss.sr.Stream(io.Discard, size)
	}
	if err := ss.sr.Hold(size, maxWhole); err != nil {
		return err
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	switch body := ss.sr.Buffered()[wire.HeaderSize:size]; {
	case typ == wire.ErrorResponse:
		ss.noteDenied(ss.queue.front(), body)
		ss.queue.answered(typ)
	case isReport(body):
		ss.report(body)
	}
	ss.sr.Discard(size)
	if len(ss.noted) < maxOpen {
		return nil
	}
	return ss.record()
}

// answered drops what a message of the server's answers, as far as tells to what its
// next report belongs.
func (q *replyQueue) answered(typ byte) {
	e := q.front()
	if e == nil {
		return
	}
	done := false
	switch typ {
	case wire.ParseComplete:
		done = e.kind == oweParse
	case wire.BindComplete:
		done = e.kind == oweBind
	case wire.CloseComplete:
		done = e.kind == oweClose
	case wire.RowDescription, wire.NoData:
		done = e.kind == oweDescribe || e.kind == oweDescribePortal
	case wire.CommandComplete, wire.EmptyQueryResponse, wire.PortalSuspended:
		done = e.kind == oweExecute
	case wire.ReadyForQuery:
		done = e.kind.endsBatch()
	case wire.ErrorResponse: // it skips to Sync
		for !e.kind.endsBatch() && q.n > 0 && q.at(0).kind != oweSync {
			q.pop()
		}
	}
	if done {
		q.pop()
	}
}

// keepCancelling cancels what the server runs, again and again, until ctx ends.
func (ss *session) keepCancelling(ctx context.Context, l *leg, patience time.Duration) {
	for wait := patience; len(l.secret) > 0; wait = cancelEvery {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		ss.srv.cancelServer(ctx, l, nil)
	}
}

// limit bounds what is read and written on a leg; zero: not at all. The session's end
// stands, if it has come.
func (ss *session) limit(l *leg, at time.Time) {
	l.SetDeadline(at) //nolint:errcheck // a broken connection shows at once
	ss.mu.Lock()
	over := ss.ended
	ss.mu.Unlock()
	if over {
		l.SetDeadline(longAgo) //nolint:errcheck // as above
	}
}

// endSending tells the other side that nothing more comes, if need be in the middle of
// a message.
func endSending(nc net.Conn) {
	if t, ok := nc.(*tls.Conn); ok {
		t.CloseWrite() //nolint:errcheck // a write that was broken off fails it
	}
	if cw, ok := socketOf(nc).(interface{ CloseWrite() error }); ok {
		cw.CloseWrite() //nolint:errcheck // closed by the other side
	}
}

// setLinger0 makes Close reset the connection, so that the server's next write fails: it
// runs no further statement then.
func setLinger0(nc net.Conn) {
	if tc, ok := socketOf(nc).(*net.TCPConn); ok {
		tc.SetLinger(0) //nolint:errcheck // closed by the other side
	}
}

// socketOf is the socket below TLS.
func socketOf(nc net.Conn) net.Conn {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	if s, ok := nc.(*wire.Socket); ok {
		nc = s.Conn
	}
	return nc
}
