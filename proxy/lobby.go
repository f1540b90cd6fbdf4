// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
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
	rooms map[netip.Addr]map[*guest]struct{}
}

// A guest is one connection before log-in.
type guest struct {
	lobby *lobby
	nc    net.Conn
	addr  netip.Addr
	since time.Time // since when it keeps the node waiting; zero: the node's turn. Guarded by lobby.mu
	step  int       // how many it has done. Guarded by lobby.mu
}

func newLobby() *lobby { return &lobby{rooms: map[netip.Addr]map[*guest]struct{}{}} }

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
	g = &guest{lobby: l, nc: nc, addr: limitKey(peerAddr(nc)), since: now}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case len(l.rooms[g.addr]) >= mostOfOne:
		evicted = firstToGo(nil, l.rooms[g.addr])
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
	if l.rooms[g.addr] == nil {
		l.rooms[g.addr] = map[*guest]struct{}{}
	}
	l.rooms[g.addr][g] = struct{}{}
	l.n++
	return g, evicted, true
}

// heaviest is the guest to go for somebody of another address: one of the
// address that has most. mu is held.
func (l *lobby) heaviest() *guest {
	var found *guest
	most := 0
	for _, room := range l.rooms {
		if len(room) < most {
			continue
		}
		if len(room) > most {
			if g := firstToGo(nil, room); g != nil {
				found, most = g, len(room)
			}
			continue
		}
		found = firstToGo(found, room)
	}
	return found
}

// firstToGo is who is to go of found and a room: who has come least far, of
// these who is silent longest; nobody, if it is the node's turn with all of them.
func firstToGo(found *guest, room map[*guest]struct{}) *guest {
	for g := range room {
		switch {
		case g.since.IsZero():
		case found == nil, g.step < found.step, g.step == found.step && g.since.Before(found.since):
			found = g
		}
	}
	return found
}

// remove forgets a guest. mu is held.
func (l *lobby) remove(g *guest) {
	room := l.rooms[g.addr]
	if _, in := room[g]; !in {
		return
	}
	delete(room, g)
	l.n--
	if len(room) == 0 {
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
	for _, room := range l.rooms {
		for g := range room {
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
	_, in := g.lobby.rooms[g.addr][g]
	return in
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
	g.since = since
	g.step += steps
	g.lobby.mu.Unlock()
}
