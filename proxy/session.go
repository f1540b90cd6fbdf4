// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/lobby"
	"github.com/hyperiondb/hyperion-vault/proxy/scram"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// A session is one client and its own server connection, moved by two
// goroutines. The front reads the client and writes the server; the back reads
// the server and writes the client:
//
//	client ──▶ front ──▶ server      every message that is owed an answer
//	   ▲                    │        enters the queue before it is written
//	   └────── back ◀───────┘        and leaves it when it is answered
//
// What the back knows of an answer comes from the queue, so answers of the
// node's own stand in the protocol's order. The front may wait for the back;
// the back never waits for the front.
//
// Locks, in the order in which they are taken: smu (what is written to the
// server, in the queue's order), mu (state), cmu (what is written to the
// client).
type session struct {
	srv *Server

	// Constant after log-in.
	accepted      net.Conn
	guest         *lobby.Guest // in the lobby until the log-in is done
	counted       bool         // in the census. Guarded by Server.mu
	client        *wire.Conn
	peer          netip.Addr // zero: a socket
	tls           bool
	version       uint32
	params        []wire.Param
	user          string
	database      string
	replication   bool
	key           cancelKey
	scramVerifier scram.Verifier
	clientKey     []byte // zeroed at the end
	actor         vault.Actor
	own           string // name of the node's own prepared statement

	active atomic.Int64           // when the client sent something last, Unix ns
	role   atomic.Pointer[string] // in whose name it runs, if that is not the actor's own; the back changes it, with mu

	leg        atomic.Pointer[leg] // the back changes it, with mu
	cr         *wire.Reader        // the front's, as clientHalt
	sr         *wire.Reader        // the back's, as serverHalt: the leg's
	clientHalt halt
	serverHalt halt

	smu  sync.Mutex
	cmu  sync.Mutex
	told bool // the client has had its last word. Guarded by cmu

	mu      sync.Mutex
	cond    sync.Cond // on mu: the back made progress, or the session ended
	waiting bool      // the front waits on cond
	ended   bool
	last    *sqlError // what somebody is about to tell the client, who has ended it so; nil: nothing
	tended  bool      // run hears the server out in the end, and closes its side
	closing bool      // drain: end at the next idle point
	working bool      // the front has a message that it does not simply pass on
	frontState
	backState
	queue      replyQueue
	trial      *trial       // what may have to run at the primary
	spare      *serverLogin // the leg that was left, which nobody reads
	spareSince time.Time
	backAt     time.Time    // when a session at the primary may go back
	carries    int          // what errands have taken of the memory for messages; the back only
	balked     int          // how often it could not, in a row
	reading    bool         // at the primary: the block that begins, or is open, only reads
	escapes    bool         // standard_conforming_strings was off at some time
	why        string       // why the session did not go to the other server the last time
	asked      asked        // the front's own
	ops        [2]operation // the front's, the back's
	settled    uint64       // how often the client was told that all of its statements are over
	cancels    deliveries   // has a lock of its own; mu and that are never held together
	halfClosed bool         // the client writes no more

	parked uint64 // the Parker's id; 0: the session runs. Guarded by mu
	waits  uint32 // what the front was seen to wait for last; parkIdle's
}

// backState is what the server said. Guarded by mu.
type backState struct {
	reported
	state       byte // of the last ReadyForQuery
	unfinished  bool // there is an unnamed portal that has not run to its end
	dropping    bool // an opening failed: nothing more for the client up to ReadyForQuery
	catalog     catalog
	doubtful    bool                // the catalog may be stale
	seen        map[uint32]struct{} // types and functions that are not the vault's
	rows        shape               // of the result set that a Query is giving
	stmtShape   shape               // of the unnamed statement
	portalShape shape               // of the unnamed portal
	serverGone  bool                // it has ended the session, or said that it does
	fatal       *sqlError           // ends the session once what is ready has been sent
	ahead       int                 // bytes at the buffer's front that pass as they are
	noted       []vault.Record      // to be recorded before anything behind it goes out
	garbled     bool                // the server has told what cannot be read
	sealed      []int64             // changes of this transaction that are recorded, and were not told yet
	out         []byte              // for the client, in place of what the server sent
	outSecret   bool
}

var errEnded = errors.New("the session has ended")

// begin makes a session of what has logged in.
func (ss *session) begin() {
	ss.cond.L = &ss.mu
	ss.own = "_hv_" + randomHex()
	ss.actor = vault.Actor{Name: ss.user, Role: ss.user, Via: vault.ViaSQL, Addr: ss.peer, Database: ss.database}
}

// run relays until either side ends, or the session is parked.
func (ss *session) run() (parked bool) {
	defer func() {
		if !parked {
			ss.srv.unregister(ss)
			ss.close()
		}
	}()
	ss.mu.Lock()
	ss.tended = true
	ss.mu.Unlock()
	for ss.relay() {
		if ss.park() {
			return true
		}
	}
	ss.hearOut()
	return false
}

// relay runs both directions until one has ended, or both have stopped to be
// parked: the front first, which then stops the back.
func (ss *session) relay() (stopped bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if !stopped {
				ss.end()
			}
		}()
		defer ss.rescue("back")
		err := ss.back()
		if stopped = errors.Is(err, wire.ErrParked); !stopped {
			ss.finish(ss.lastWord(err))
		}
	}()
	func() {
		defer ss.rescue("front")
		err := ss.front()
		if errors.Is(err, wire.ErrParked) {
			ss.server().Park()
			return
		}
		ss.finishFront(err, done)
	}()
	<-done
	return stopped
}

// rescue keeps a panic of one of the two goroutines within the session. It may
// have left mu locked, and everybody would wait for it for ever, with the
// server's transaction open: with nothing to be read or written any more nobody
// else holds mu for as long as is tried here.
func (ss *session) rescue(where string) {
	p := recover()
	if p == nil {
		return
	}
	ss.srv.panicked(where, p)
	ss.client.SetDeadline(longAgo)                                                                  //nolint:errcheck // both ends may be gone already
	ss.server().SetDeadline(longAgo)                                                                //nolint:errcheck // as above
	defer ss.end()                                                                                  // Close waits for whoever waits for mu
	for begun := time.Now(); time.Since(begun) < rescueTimeout; time.Sleep(10 * time.Millisecond) { //nolint:forbidigo // the lock may be held for ever
		if ss.mu.TryLock() {
			ss.mu.Unlock()
			return
		}
	}
	ss.mu.Unlock()
}

// rescueTimeout is far longer than anybody holds mu.
const rescueTimeout = 2 * time.Second

// finishFront ends the front. A client that has merely stopped writing still
// gets the answers that it is owed, as from PostgreSQL; one that broke the
// protocol's framing gets the server's own word behind them. done is closed when
// the back has ended.
func (ss *session) finishFront(err error, done <-chan struct{}) {
	if ss.passHeader(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		if ss.halfClose() == nil {
			ss.watchGone(done)
			return
		}
	}
	if errors.Is(err, errEnded) { // whoever ends it has a last word for the client
		return
	}
	ss.finish(err)
	ss.end()
}

// halfClose tells the server that nothing more comes: while the session is on its
// way to another one, the back does.
func (ss *session) halfClose() error {
	if _, err := ss.giveRefusal(); err != nil {
		return err
	}
	ss.mu.Lock()
	ss.halfClosed = true
	l, later := ss.server(), ss.trial != nil && ss.trial.refused != nil
	ss.mu.Unlock()
	if later {
		return nil
	}
	return closeWrite(l)
}

// passHeader lets the server judge a header that breaks the framing: its FATAL,
// or its silence, comes in the order of the answers. The header is the last that
// it gets of this client.
func (ss *session) passHeader(err error) bool {
	var frame *wire.FrameError
	var unknown *wire.UnknownTypeError
	if !errors.As(err, &frame) && !errors.As(err, &unknown) {
		return false
	}
	if _, failed := ss.giveRefusal(); failed != nil {
		return false
	}
	ss.mu.Lock()
	if ss.trial != nil && ss.trial.refused != nil { // not between an error and the answer in its place
		err = ss.wait(func() bool { return ss.queue.ends == 0 })
	}
	ss.mu.Unlock()
	if errors.Is(err, errEnded) {
		return false
	}
	ss.smu.Lock()
	defer ss.smu.Unlock()
	_, err = ss.server().Write(ss.cr.Buffered()[:wire.HeaderSize])
	return err == nil
}

// finish tells the client why its session ends, if it is the node's doing.
func (ss *session) finish(err error) {
	var e *sqlError
	var frame *wire.FrameError
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return
	case errors.As(err, &e):
	case errors.As(err, &frame):
		e = fatalError(stateProtocol, "invalid message length", "")
	case errors.Is(err, wire.ErrTooLarge):
		e = fatalError(stateLimit, "a message is too large for the node to look into", fmt.Sprintf("VAULT_MAX_QUERY_BYTES is %d.", ss.srv.limits().MaxQuery))
		ss.refusedUnread(e)
	case errors.Is(err, wire.ErrNoRoom):
		e = fatalError(stateNoMemory, "the node holds too many large messages at once", fmt.Sprintf("VAULT_MAX_HELD_BYTES is %d.", ss.srv.limits().MaxHeld))
		ss.refusedUnread(e)
	default:
		ss.srv.cfg.Log.Debug("the session ended", "role", ss.user, "client", ss.peerText(), "reason", err.Error())
		return
	}
	fatal := *e
	fatal.fatal = true
	ss.terminate(&fatal)
}

// terminate sends a last error and closes both connections. The client may be
// slow to read: it gets a second.
func (ss *session) terminate(e *sqlError) {
	ss.client.Net().SetWriteDeadline(time.Now().Add(time.Second)) //nolint:errcheck // closed next
	ss.cmu.Lock()
	if !ss.told {
		ss.told = true
		ss.client.Write(e.append(nil)) //nolint:errcheck // the last word, if the client hears it
	}
	ss.cmu.Unlock()
	ss.end()
}

// end closes both connections, the server's only if run does not, and wakes whoever
// waits. Safe to call again.
func (ss *session) end() {
	ss.mu.Lock()
	ss.ended = true
	parked, l, spare, tended := ss.parked, ss.server(), ss.spare, ss.tended
	ss.spare = nil
	for _, o := range ss.ops {
		if o.cancel != nil {
			o.cancel()
		}
	}
	if ss.cond.L != nil {
		ss.cond.Broadcast()
	}
	ss.mu.Unlock()
	if parked != 0 {
		ss.srv.parker.Wake(parked)
	}
	if spare != nil {
		spare.leg.drop()
	}
	// Close waits until nobody is in the middle of passing on what he has read:
	// no write may hold him (see wire.Reader.Pump).
	ss.client.Net().SetWriteDeadline(longAgo) //nolint:errcheck // both ends may be gone already
	switch {
	case l == nil:
		ss.client.Close() //nolint:errcheck // as above
	case tended:
		l.SetDeadline(longAgo) //nolint:errcheck // as above
		ss.client.Close()      //nolint:errcheck // as above
	default:
		l.Net().SetWriteDeadline(longAgo) //nolint:errcheck // as above
		ss.client.Close()                 //nolint:errcheck // as above
		l.Close()                         //nolint:errcheck // as above
	}
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// close frees what the session holds and zeroes its keys.
func (ss *session) close() {
	ss.mu.Lock()
	ss.tended = false
	ss.mu.Unlock()
	ss.end()
	ss.srv.departed(ss)
	erase.Zero(ss.clientKey)
	erase.Zero(ss.out)
	for _, st := range ss.stmts {
		st.zero()
	}
	ss.unnamedStmt.zero()
	ss.endTrial()
	for _, r := range []*wire.Reader{ss.cr, ss.sr} {
		if r != nil {
			r.Release()
		}
	}
}

// quiet reports that nothing is owed and no batch is open. mu is held.
func (ss *session) quiet() bool { return ss.queue.len() == 0 && !ss.batch.open }

// secretsAllowed reports whether this connection may carry values.
func (ss *session) secretsAllowed() *sqlError {
	if ss.tls || ss.isLocalPeer() || ss.srv.cfg.TLS == nil || ss.srv.cfg.RequireTLS == TLSOff {
		return nil
	}
	return &sqlError{
		code: stateAuthorization, reason: "no_tls", message: "secrets travel only over an encrypted connection",
		hint: "Connect with sslmode=require (VAULT_REQUIRE_TLS=secrets on the node).",
	}
}

func randomHex() string {
	var b [12]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
