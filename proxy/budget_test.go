// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

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
