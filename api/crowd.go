// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/hyperiondb/hyperion-vault/proxy/lobby"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// spare is how many connections there may be beyond those whose requests are served:
// who asks how the node is gets in, however many requests are under way.
const spare = 32

// crowd bounds connections, and requests that are served at once.
type crowd struct {
	most    atomic.Int64
	inside  *lobby.Lobby
	under   atomic.Int64 // requests under way, but for those whose clients keep them waiting
	turned  atomic.Int64
	grumble rate.Sometimes

	// Of those that do not count, such as are under way: each kind for itself, so that
	// tokens of nobody's cannot keep a node from telling how it is.
	aside, strangers atomic.Int64
}

func newCrowd() *crowd {
	return &crowd{inside: lobby.New(), grumble: rate.Sometimes{First: 1, Interval: 10 * time.Second}}
}

// SetMaxConnections replaces the bound of Config from the next connection on.
func (h *Handler) SetMaxConnections(n int) { h.crowd.most.Store(int64(n)) }

// Connections returns how many there are, and how many were turned away because of
// their number, or their requests were.
func (h *Handler) Connections() (now int, turnedAway int64) {
	return h.crowd.inside.Len(), h.crowd.turned.Load()
}

func (h *Handler) turnAway(client string) {
	h.crowd.turned.Add(1)
	h.crowd.grumble.Do(func() {
		h.log.Warn("clients are turned away: a limit is reached", "limit", "rest", "client", client)
	})
}

const textBusy = "this node is serving as many requests as it may; try again in a moment"

// full says whether more requests are under way than may be.
func (c *crowd) full() bool { return c.under.Load() > c.most.Load() }

// room counts one more of a kind that a connection which makes room is at work for, and
// says whether there may be so many: of those that have made room some are at it still.
func (c *crowd) room(kind *atomic.Int64) bool { return kind.Add(1) <= c.most.Load()+spare }

// Listen returns a listener for an HTTP server whose requests go through Turns or Aside. Of
// its connections, more than may be make room for each other, and what they read and
// write leaves no value in the server's buffers. That server takes them for plain
// ones, so that it speaks HTTP/1.1 whatever is below.
func (h *Handler) Listen(l net.Listener) net.Listener { return &listener{l, h} }

type listener struct {
	net.Listener
	h *Handler
}

// Accept returns the next connection for which there is room, or room can be made.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		raw := c
		if secured, ok := c.(interface{ NetConn() net.Conn }); ok {
			raw = secured.NetConn() // TLS would say goodbye, to who may not listen
		}
		most := int(l.h.crowd.most.Load()) + spare
		guest, evicted, ok := l.h.crowd.inside.Enter(raw, most, most, time.Now())
		if ok {
			if evicted != nil {
				l.h.turnAway(c.RemoteAddr().String())
			}
			return &conn{Conn: c, crowd: l.h.crowd, guest: guest}, nil
		}
		l.h.turnAway(c.RemoteAddr().String())
		_ = raw.Close() // nothing was said yet
	}
}

// Turns has the connections of Listen know when a request is served: none is closed
// for another one then, unless its client does not send on or does not read.
func Turns(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := connOf(r.Context()); c != nil {
			c.served = true
			c.crowd.under.Add(1)
			c.guest.Served()
			defer c.answered()
		}
		next.ServeHTTP(w, r)
	})
}

// Aside is Turns for what anybody may ask, as how the node is: it takes no request's
// turn, and its connection makes room for another one, after those that say nothing. Of
// what may wait for other servers there are so many at a time at most.
func Aside(next http.Handler, waits bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := connOf(r.Context()); c != nil {
			c.guest.Advances()
			if waits {
				defer c.crowd.aside.Add(-1)
			}
			if waits && !c.crowd.room(&c.crowd.aside) {
				writeError(w, http.StatusServiceUnavailable, vault.KindBusy.String(), textBusy)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// answered: it is the client's turn.
func (c *conn) answered() {
	c.served = false
	c.crowd.under.Add(-1)
	c.guest.Waits()
}

// keepWaiting is for when the client keeps a request waiting, until done is called.
func (c *conn) keepWaiting() (done func()) {
	if !c.served {
		return func() {}
	}
	c.crowd.under.Add(-1)
	c.guest.Waits()
	return func() {
		c.crowd.under.Add(1)
		c.guest.Heard()
	}
}

// Close makes room.
func (c *conn) Close() error {
	c.guest.Leave()
	return c.Conn.Close()
}
