// SPDX-License-Identifier: GPL-3.0-or-later

package lobby

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// from is a connection of a client at an address.
type from struct {
	net.Conn
	addr   string
	closed bool
}

func (c *from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.addr)) }
func (c *from) Close() error         { c.closed = true; return nil }

func TestLobby(t *testing.T) {
	now := time.Unix(1000, 0)
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	l := New()
	enter := func(addr string, second int) (*Guest, *Guest, bool) {
		t.Helper()
		return l.Enter(&from{addr: addr}, 6, 4, at(second))
	}
	var flood []*Guest
	for i := range 4 {
		g, evicted, ok := enter("192.0.2.1:1", i)
		if !ok || evicted != nil {
			t.Fatalf("%d: ok %v, evicted %v", i, ok, evicted)
		}
		flood = append(flood, g)
	}
	flood[0].Served() // the node's turn: it is not to blame
	flood[3].Advances()
	if _, evicted, ok := enter("192.0.2.1:2", 5); !ok || evicted != flood[1] || !evicted.nc.(*from).closed {
		t.Errorf("over the address's bound: ok %v, evicted %v; want its oldest that keeps the node waiting", ok, evicted)
	}
	other, _, _ := enter("192.0.2.2:1", 6)
	if _, evicted, ok := enter("[2001:db8::1]:1", 7); !ok || evicted != nil {
		t.Fatal("below both bounds somebody had to go")
	}
	if _, evicted, ok := enter("[2001:db8::2]:1", 8); !ok || evicted != flood[2] {
		t.Errorf("over the bound of all: evicted %+v, want the oldest at the address that has most", evicted)
	}
	if got := len(l.rooms[netip.MustParseAddr("2001:db8::")].guests); got != 2 {
		t.Errorf("%d counted for the IPv6 network, want 2", got)
	}
	if other.nc.(*from).closed {
		t.Error("a client of another address had to go")
	}
	if flood[2].Inside() || !flood[0].Inside() {
		t.Error("who was thrown out is taken to be inside, or the other way round")
	}
	flood[2].Leave() // again
	if got := l.Len(); got != 6 {
		t.Errorf("%d inside, want 6", got)
	}
	for _, room := range l.rooms {
		for g := range room.guests {
			g.Served()
		}
	}
	if _, _, ok := enter("192.0.2.9:1", 9); ok {
		t.Error("let in although the node is at work for all of the others")
	}
	for _, room := range l.rooms {
		for g := range room.guests {
			g.Leave()
		}
	}
	if l.Len() != 0 || len(l.rooms) != 0 {
		t.Errorf("%d inside in %d rooms, want none", l.Len(), len(l.rooms))
	}
}
