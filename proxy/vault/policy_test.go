// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestAllowList(t *testing.T) {
	var unix netip.Addr
	a := netip.MustParseAddr
	for _, tc := range []struct {
		list string
		addr netip.Addr
		want bool
	}{
		{"", a("127.0.0.1"), false},
		{"", unix, false},
		{" , ,", a("127.0.0.1"), false},
		{"10.0.0.0/8", a("10.255.0.1"), true},
		{"10.0.0.0/8", a("11.0.0.1"), false},
		{"10.0.0.0/8", a("::ffff:10.0.0.1"), true},
		{"::ffff:10.0.0.0/104", a("10.0.0.1"), true},
		{"::ffff:10.0.0.1", a("10.0.0.1"), true},
		{"10.0.0.1", a("10.0.0.1"), true},
		{"10.0.0.1", a("10.0.0.2"), false},
		{"0.0.0.0/0", a("8.8.8.8"), true},
		{"0.0.0.0/0", a("2001:db8::1"), false},
		{"::/0", a("2001:db8::1"), true},
		{"::/0", a("8.8.8.8"), false},
		{"::/0", a("::ffff:8.8.8.8"), false}, // an IPv4 client, however the socket shows it
		{"fd00::/8", a("fd12::1"), true},
		{"fe80::/10", a("fe80::1%eth0"), true},
		{"loopback", a("127.9.9.9"), true},
		{"loopback", a("::1"), true},
		{"loopback", a("::ffff:127.0.0.1"), true},
		{"loopback", unix, true},
		{"LOOPBACK", unix, true},
		{"loopback", a("10.0.0.1"), false},
		{"127.0.0.0/8", unix, true},
		{"::1", unix, true},
		{"10.0.0.0/8", unix, false},
		{"samehost", a("127.0.0.1"), true},
		{"samehost", unix, true},
		{"samehost", a("192.0.2.7"), true},
		{"samehost", a("192.0.2.8"), false}, // its network does not count
		{"samehost", a("2001:db8::7"), true},
		{"10.0.0.0/8\n192.168.0.0/16, samehost", a("192.168.4.4"), true},
	} {
		l := mustAllow(t, tc.list)
		l.interfaces = func() ([]net.Addr, error) {
			return []net.Addr{
				&net.IPNet{IP: net.IPv4(192, 0, 2, 7), Mask: net.CIDRMask(24, 32)},
				&net.IPNet{IP: net.ParseIP("2001:db8::7"), Mask: net.CIDRMask(64, 128)},
			}, nil
		}
		if got := l.Contains(tc.addr); got != tc.want {
			t.Errorf("%q contains %v: %v, want %v", tc.list, tc.addr, got, tc.want)
		}
	}
	var none *AllowList
	if none.Contains(a("127.0.0.1")) || none.Contains(unix) || none.String() != "" {
		t.Error("a nil list allows somebody")
	}
}

func TestParseAllowListRefuses(t *testing.T) {
	for _, bad := range []string{"10.0.0.1/8", "10.0.0.0/33", "10.0.0", "all", "host.example", "fe80::1%eth0", "fd00::1/8", "10.0.0.0/8;::1", strings.Repeat("10.0.0.1 ", maxAllowEntries+1)} {
		if _, err := ParseAllowList(bad); err == nil {
			t.Errorf("%.40q was accepted", bad)
		}
	}
}

// If this host's addresses cannot be listed, samehost means loopback only.
func TestSameHostFailsClosed(t *testing.T) {
	l := mustAllow(t, "samehost")
	l.interfaces = func() ([]net.Addr, error) { return nil, errSpool }
	if l.Contains(netip.MustParseAddr("192.0.2.7")) {
		t.Error("allowed an address without knowing that it is ours")
	}
	if !l.Contains(netip.MustParseAddr("127.0.0.1")) {
		t.Error("loopback was refused")
	}
}

func TestRecordAllows(t *testing.T) {
	p := netip.MustParsePrefix
	for _, tc := range []struct {
		cidrs []netip.Prefix
		addr  netip.Addr
		want  bool
	}{
		{nil, netip.MustParseAddr("8.8.8.8"), true},
		{nil, netip.Addr{}, true},
		{[]netip.Prefix{p("10.0.0.0/8"), p("fd00::/8")}, netip.MustParseAddr("::ffff:10.0.0.1"), true},
		{[]netip.Prefix{p("::ffff:10.0.0.0/104")}, netip.MustParseAddr("10.0.0.1"), true},
		{[]netip.Prefix{p("10.0.0.0/8")}, netip.MustParseAddr("11.0.0.1"), false},
		{[]netip.Prefix{p("10.0.0.0/8")}, netip.Addr{}, false},
		{[]netip.Prefix{p("127.0.0.1/32")}, netip.Addr{}, true},
		{[]netip.Prefix{p("::1/128")}, netip.Addr{}, true},
	} {
		if got := recordAllows(tc.cidrs, tc.addr); got != tc.want {
			t.Errorf("%v allows %v: %v, want %v", tc.cidrs, tc.addr, got, tc.want)
		}
	}
}

// FuzzAllowList: what is accepted reads back as the same list, and an IPv4
// client gets the same answer however the socket shows its address.
func FuzzAllowList(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8, loopback", "samehost ::1", "::ffff:10.0.0.0/104", "10.0.0.1/8", "fe80::1%x", ",,"} {
		f.Add(s, uint32(0x0a000001))
	}
	f.Fuzz(func(t *testing.T, s string, ip uint32) {
		l, err := ParseAllowList(s)
		if err != nil {
			return
		}
		again, err := ParseAllowList(l.String())
		if err != nil || again.String() != l.String() {
			t.Fatalf("%q reads back as %q: %v", s, again.String(), err)
		}
		l.interfaces, again.interfaces = noInterfaces, noInterfaces
		v4 := netip.AddrFrom4([4]byte{byte(ip >> 24), byte(ip >> 16), byte(ip >> 8), byte(ip)})
		mapped := netip.AddrFrom16(v4.As16())
		if a, b := l.Contains(v4), again.Contains(mapped); a != b {
			t.Fatalf("%q: %v %v, %v %v", s, v4, a, mapped, b)
		}
	})
}

func noInterfaces() ([]net.Addr, error) { return nil, nil }
