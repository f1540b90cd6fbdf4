// SPDX-License-Identifier: GPL-3.0-or-later

// Package lobby bounds connections that do not have to be kept: when it is full, one
// that keeps the node waiting makes room for the next. It is the proxy's for clients
// before log-in, and REST's for all of its.
package lobby

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A Lobby holds connections. When it is full, one that keeps the node waiting makes
// room, at the address that has most: of those the one that has come least far, of
// these the one that is silent longest. So a stranger who opens many and says nothing
// throws out himself, and nobody for whom the node is at work. Make it with New; safe
// for concurrent use.
type Lobby struct {
	mu    sync.Mutex
	n     int
	rooms map[netip.Addr]*room
}

// A room holds the guests of one address. Those that keep the node waiting stand
// in a queue by how far they have come, so that the first to go is found at once,
// however many there are.
type room struct {
	guests  map[*Guest]struct{}
	waiting [maxSteps + 1]list.List // of *Guest, the one that is silent longest first
}

// maxSteps is more than a log-in has; whoever does more does not come further.
const maxSteps = 7

// A Guest is one connection in a lobby; nil: one that is in none.
type Guest struct {
	lobby *Lobby
	nc    net.Conn
	addr  netip.Addr

	// Guarded by the lobby's mutex.
	since time.Time     // since when it keeps the node waiting; zero: the node's turn
	step  int           // how many it has done, maxSteps at most
	place *list.Element // in the room's queue; nil: the node's turn
}

// New returns an empty lobby.
func New() *Lobby { return &Lobby{rooms: map[netip.Addr]*room{}} }

// Peer is a client's address; zero for a socket.
func Peer(nc net.Conn) netip.Addr {
	if ap, err := netip.ParseAddrPort(nc.RemoteAddr().String()); err == nil {
		return ap.Addr().Unmap()
	}
	return netip.Addr{}
}

// Key is the address by which a client is counted: of IPv6 the network,
// since a stranger has as many addresses in his as he likes. Zero: a socket.
func Key(a netip.Addr) netip.Addr {
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// Enter takes a connection in: at most so many in all, and of one address. Another
// one may be closed for it, which is returned; if none can be, ok is false.
func (l *Lobby) Enter(nc net.Conn, most, mostOfOne int, now time.Time) (g, evicted *Guest, ok bool) {
	g = &Guest{lobby: l, nc: nc, addr: Key(Peer(nc))}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch own := l.rooms[g.addr]; {
	case own != nil && len(own.guests) >= mostOfOne:
		evicted = own.firstToGo()
	case l.n >= most:
		evicted = l.heaviest()
	default:
		ok = true
	}
	if evicted != nil {
		l.remove(evicted)
		evicted.nc.Close() //nolint:errcheck // its goroutine ends with it
		ok = true
	}
	if !ok {
		return nil, nil, false
	}
	r := l.rooms[g.addr]
	if r == nil {
		r = &room{guests: map[*Guest]struct{}{}}
		l.rooms[g.addr] = r
	}
	r.guests[g] = struct{}{}
	r.stand(g, now)
	l.n++
	return g, evicted, true
}

// heaviest is the guest to go for somebody of another address: one of the
// address that has most. mu is held.
func (l *Lobby) heaviest() *Guest {
	var found *Guest
	most := 0
	for _, r := range l.rooms {
		g := r.firstToGo()
		if n := len(r.guests); g != nil && (n > most || n == most && g.goesBefore(found)) {
			found, most = g, n
		}
	}
	return found
}

// goesBefore reports whether g has come less far than other, or as far and has
// been silent for longer.
func (g *Guest) goesBefore(other *Guest) bool {
	return g.step < other.step || g.step == other.step && g.since.Before(other.since)
}

// firstToGo is who has come least far, of these who is silent longest; nobody, if
// it is the node's turn with all of them. mu is held.
func (r *room) firstToGo() *Guest {
	for i := range r.waiting {
		if e := r.waiting[i].Front(); e != nil {
			return e.Value.(*Guest) //nolint:errcheck,forcetypeassert // nothing else is in it
		}
	}
	return nil
}

// stand puts a guest into its queue, or into none if since is zero. mu is held.
func (r *room) stand(g *Guest, since time.Time) {
	if g.since = since; !since.IsZero() {
		g.place = r.waiting[g.step].PushBack(g)
	}
}

// leave takes a guest out of its queue. mu is held.
func (r *room) leave(g *Guest) {
	if g.place != nil {
		r.waiting[g.step].Remove(g.place)
		g.place = nil
	}
}

// has reports whether the guest is inside. mu is held.
func (l *Lobby) has(g *Guest) bool {
	r := l.rooms[g.addr]
	if r == nil {
		return false
	}
	_, in := r.guests[g]
	return in
}

// remove forgets a guest. mu is held.
func (l *Lobby) remove(g *Guest) {
	if !l.has(g) {
		return
	}
	r := l.rooms[g.addr]
	r.leave(g)
	delete(r.guests, g)
	l.n--
	if len(r.guests) == 0 {
		delete(l.rooms, g.addr)
	}
}

// Len is how many are inside.
func (l *Lobby) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// CloseAll ends them all.
func (l *Lobby) CloseAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.rooms {
		for g := range r.guests {
			g.nc.Close() //nolint:errcheck // nothing is under way that has to end well
		}
	}
}

// Leave forgets the guest; again, it does nothing. Safe on nil.
func (g *Guest) Leave() {
	if g == nil {
		return
	}
	g.lobby.mu.Lock()
	g.lobby.remove(g)
	g.lobby.mu.Unlock()
}

// Inside reports whether the guest has not been thrown out. Safe on nil.
func (g *Guest) Inside() bool {
	if g == nil {
		return true
	}
	g.lobby.mu.Lock()
	defer g.lobby.mu.Unlock()
	return g.lobby.has(g)
}

// Addr is by what the guest is counted.
func (g *Guest) Addr() netip.Addr { return g.addr }

// Waits notes that the node waits for the guest now. Safe on nil.
func (g *Guest) Waits() { g.turn(time.Now(), 0) }

// Advances notes that the guest has done a step, and the next one is his too. Safe
// on nil.
func (g *Guest) Advances() { g.turn(time.Now(), 1) }

// Served notes that the guest has done a step and waits for the node now. Safe
// on nil.
func (g *Guest) Served() { g.turn(time.Time{}, 1) }

// Heard notes that it is the node's turn again, in the same step. Safe on nil.
func (g *Guest) Heard() { g.turn(time.Time{}, 0) }

func (g *Guest) turn(since time.Time, steps int) {
	if g == nil {
		return
	}
	g.lobby.mu.Lock()
	defer g.lobby.mu.Unlock()
	if !g.lobby.has(g) {
		return
	}
	r := g.lobby.rooms[g.addr]
	r.leave(g)
	g.step = min(g.step+steps, maxSteps)
	r.stand(g, since)
}
