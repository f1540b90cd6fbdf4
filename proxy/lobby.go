// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A lobby holds the connections that have not logged in yet. When it is full,
// one that keeps the node waiting makes room, at the address that has most: of
// those the one that has come least far, of these the one that is silent longest.
// So a stranger who opens many and says nothing throws out himself, and nobody
// who is being asked for his password.
type lobby struct {
	mu    sync.Mutex
	n     int
	rooms map[netip.Addr]*room
}

// A room holds the guests of one address. Those that keep the node waiting stand
// in a queue by how far they have come, so that the first to go is found at once,
// however many there are.
type room struct {
	guests  map[*guest]struct{}
	waiting [maxSteps + 1]list.List // of *guest, the one that is silent longest first
}

// maxSteps is more than a log-in has; whoever does more does not come further.
const maxSteps = 7

// A guest is one connection before log-in.
type guest struct {
	lobby *lobby
	nc    net.Conn
	addr  netip.Addr

	// Guarded by lobby.mu.
	since time.Time     // since when it keeps the node waiting; zero: the node's turn
	step  int           // how many it has done, maxSteps at most
	place *list.Element // in the room's queue; nil: the node's turn
}

func newLobby() *lobby { return &lobby{rooms: map[netip.Addr]*room{}} }

// limitKey is the address by which a client is counted: of IPv6 the network,
// since a stranger has as many addresses in his as he likes. Zero: a socket.
func limitKey(a netip.Addr) netip.Addr {
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// enter takes a connection in. Another one may be closed for it, which is
// returned; if none can be, ok is false.
func (l *lobby) enter(nc net.Conn, most, mostOfOne int, now time.Time) (g, evicted *guest, ok bool) {
	g = &guest{lobby: l, nc: nc, addr: limitKey(peerAddr(nc))}
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
		r = &room{guests: map[*guest]struct{}{}}
		l.rooms[g.addr] = r
	}
	r.guests[g] = struct{}{}
	r.stand(g, now)
	l.n++
	return g, evicted, true
}

// heaviest is the guest to go for somebody of another address: one of the
// address that has most. mu is held.
func (l *lobby) heaviest() *guest {
	var found *guest
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
func (g *guest) goesBefore(other *guest) bool {
	return g.step < other.step || g.step == other.step && g.since.Before(other.since)
}

// firstToGo is who has come least far, of these who is silent longest; nobody, if
// it is the node's turn with all of them. mu is held.
func (r *room) firstToGo() *guest {
	for i := range r.waiting {
		if e := r.waiting[i].Front(); e != nil {
			return e.Value.(*guest) //nolint:errcheck,forcetypeassert // nothing else is in it
		}
	}
	return nil
}

// stand puts a guest into its queue, or into none if since is zero. mu is held.
func (r *room) stand(g *guest, since time.Time) {
	if g.since = since; !since.IsZero() {
		g.place = r.waiting[g.step].PushBack(g)
	}
}

// leave takes a guest out of its queue. mu is held.
func (r *room) leave(g *guest) {
	if g.place != nil {
		r.waiting[g.step].Remove(g.place)
		g.place = nil
	}
}

// has reports whether the guest is inside. mu is held.
func (l *lobby) has(g *guest) bool {
	r := l.rooms[g.addr]
	if r == nil {
		return false
	}
	_, in := r.guests[g]
	return in
}

// remove forgets a guest. mu is held.
func (l *lobby) remove(g *guest) {
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

// len is how many are inside.
func (l *lobby) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// closeAll ends them all.
func (l *lobby) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.rooms {
		for g := range r.guests {
			g.nc.Close() //nolint:errcheck // nobody is logged in yet
		}
	}
}

// leave forgets the guest; again, it does nothing. Safe on nil.
func (g *guest) leave() {
	if g == nil {
		return
	}
	g.lobby.mu.Lock()
	g.lobby.remove(g)
	g.lobby.mu.Unlock()
}

// inside reports whether the guest has not been thrown out. Safe on nil.
func (g *guest) inside() bool {
	if g == nil {
		return true
	}
	g.lobby.mu.Lock()
	defer g.lobby.mu.Unlock()
	return g.lobby.has(g)
}

// waits notes that the node waits for the guest now. Safe on nil.
func (g *guest) waits() { g.turn(time.Now(), 0) }

// advances notes that the guest has done a step, and the next one is his too.
func (g *guest) advances() { g.turn(time.Now(), 1) }

// served notes that the guest has done a step and waits for the node now. Safe
// on nil.
func (g *guest) served() { g.turn(time.Time{}, 1) }

func (g *guest) turn(since time.Time, steps int) {
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
