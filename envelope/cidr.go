// SPDX-License-Identifier: GPL-3.0-or-later

package envelope

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// A CIDR entry is a family byte (4 or 6), the prefix length in bits and 4 or 16
// address bytes whose host bits are zero. A v4-mapped IPv6 network stays family
// 6, as PostgreSQL has it.

func appendCIDRs(dst []byte, cidrs []netip.Prefix) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	for _, p := range cidrs {
		if a := p.Addr(); a.Is4() {
			b := a.As4()
			dst = append(append(dst, 4, byte(p.Bits())), b[:]...) //nolint:gosec // 0..32, checked
		} else {
			b := a.As16()
			dst = append(append(dst, 6, byte(p.Bits())), b[:]...) //nolint:gosec // 0..128, checked
		}
	}
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4)) //nolint:gosec // at most maxCIDRBytes
	return dst
}

func parseCIDRs(dst []netip.Prefix, b []byte) ([]netip.Prefix, bool) {
	dst = slices.Grow(dst, min(len(b)/6, MaxCIDRs))
	for len(b) > 0 {
		if len(dst) == MaxCIDRs || len(b) < 2 {
			return dst, false
		}
		family, bits := b[0], int(b[1])
		var addr netip.Addr
		switch {
		case family == 4 && len(b) >= 6:
			addr, b = netip.AddrFrom4([4]byte(b[2:6])), b[6:]
		case family == 6 && len(b) >= 18:
			addr, b = netip.AddrFrom16([16]byte(b[2:18])), b[18:]
		default:
			return dst, false
		}
		p := netip.PrefixFrom(addr, bits)
		if !p.IsValid() || p.Masked() != p {
			return dst, false
		}
		dst = append(dst, p)
	}
	if len(dst) == 0 {
		return nil, true
	}
	return dst, true
}

func validCIDRs(cidrs []netip.Prefix) bool {
	for _, p := range cidrs {
		if !p.IsValid() || p.Masked() != p {
			return false
		}
	}
	return len(cidrs) <= MaxCIDRs
}
