// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"fmt"
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
	l := newLobby()
	enter := func(addr string, second int) (*guest, *guest, bool) {
		t.Helper()
		return l.enter(&from{addr: addr}, 6, 4, at(second))
	}
	var flood []*guest
	for i := range 4 {
		g, evicted, ok := enter("192.0.2.1:1", i)
		if !ok || evicted != nil {
			t.Fatalf("%d: ok %v, evicted %v", i, ok, evicted)
		}
		flood = append(flood, g)
	}
	flood[0].served() // the node's turn: it is not to blame
	flood[3].advances()
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
	if flood[2].inside() || !flood[0].inside() {
		t.Error("who was thrown out is taken to be inside, or the other way round")
	}
	flood[2].leave() // again
	if got := l.len(); got != 6 {
		t.Errorf("%d inside, want 6", got)
	}
	for _, room := range l.rooms {
		for g := range room.guests {
			g.served()
		}
	}
	if _, _, ok := enter("192.0.2.9:1", 9); ok {
		t.Error("let in although the node is at work for all of the others")
	}
	for _, room := range l.rooms {
		for g := range room.guests {
			g.leave()
		}
	}
	if l.len() != 0 || len(l.rooms) != 0 {
		t.Errorf("%d inside in %d rooms, want none", l.len(), len(l.rooms))
	}
}

func TestBudget(t *testing.T) {
	now := time.Unix(1000, 0)
	b := newBudget(100) // of strangers; 1,000 at once
	bad, good := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	b.pay(good, 5, now).succeeded(now)
	for i := range 50 {
		if p := b.pay(bad, 5, now); p.wait != 0 {
			t.Fatalf("try %d of 50 has to wait %v", i, p.wait)
		}
	}
	if p := b.pay(bad, 5, now); p.wait != 200*time.Millisecond {
		t.Errorf("the 51st waits %v, want 200ms", p.wait)
	} else {
		p.giveBack()
	}
	if p := b.pay(bad, 5, now.Add(time.Second)); p.wait != 0 {
		t.Errorf("a second later: wait %v", p.wait)
	}
	for range 10_000 { // whoever succeeds pays nothing
		p := b.pay(good, 5, now)
		if p.wait != 0 {
			t.Fatal("a client that succeeds has to wait")
		}
		p.succeeded(now)
	}
	for i := range 1200 { // strangers from everywhere
		b.pay(netip.MustParseAddr(fmt.Sprintf("198.51.%d.%d", i/256, i%256)), 5, now.Add(time.Second))
	}
	if p := b.pay(netip.MustParseAddr("203.0.113.1"), 5, now.Add(time.Second)); p.wait == 0 {
		t.Error("strangers of many addresses are not bounded together")
	}
	if p := b.pay(good, 5, now.Add(time.Second)); p.wait != 0 {
		t.Errorf("a client that is known waits %v for strangers", p.wait)
	}
	if p := b.pay(good, 5, now.Add(2*goodFor)); p.all == nil {
		t.Error("a client is known for ever")
	}
}

func TestBudgetTableIsBounded(t *testing.T) {
	b, now := newBudget(0), time.Unix(1000, 0)
	addr := netip.MustParseAddr("10.0.0.0")
	for range maxBuckets + 100 {
		b.pay(addr, 1, now)
		addr = addr.Next()
	}
	if len(b.buckets) != maxBuckets {
		t.Errorf("%d buckets, want %d", len(b.buckets), maxBuckets)
	}
	if b.overflow.spent == 0 {
		t.Error("those without room pay nothing")
	}
	b.pay(addr, 1, now.Add(time.Minute))
	if len(b.buckets) != 1 {
		t.Errorf("%d buckets after they filled up, want 1", len(b.buckets))
	}
}
