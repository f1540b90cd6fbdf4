// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// maxAllowEntries keeps the walk over a list short; larger sets are
	// written as networks.
	maxAllowEntries = 1024

	// sameHostTTL is how long the list of this host's own addresses is used.
	sameHostTTL = 10 * time.Second
)

// AllowList says from which addresses secrets may be read and verified: IPv4
// and IPv6 networks, "loopback", "samehost" (any address of this host). Nil and
// empty lists allow nobody. Safe for concurrent use.
type AllowList struct {
	prefixes           []netip.Prefix // no v4-mapped ones
	loopback, samehost bool
	text               string

	interfaces func() ([]net.Addr, error)
	own        atomic.Pointer[ownAddrs]
}

// ownAddrs is what samehost meant at a time.
type ownAddrs struct {
	at    time.Time
	addrs []netip.Addr
}

// ParseAllowList reads a list separated by commas or blanks. An entry is a
// network ("10.0.0.0/8", "fd00::/8"), one address, "loopback" or "samehost".
func ParseAllowList(s string) (*AllowList, error) {
	l := &AllowList{interfaces: net.InterfaceAddrs}
	entries := strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' || r == '\r' })
	if len(entries) > maxAllowEntries {
		return nil, fmt.Errorf("an allowlist has at most %d entries, this one has %d", maxAllowEntries, len(entries))
	}
	for _, entry := range entries {
		switch strings.ToLower(entry) {
		case "loopback":
			l.loopback = true
		case "samehost":
			l.samehost = true
		default:
			p, err := parseNetwork(entry)
			if err != nil {
				return nil, err
			}
			l.prefixes = append(l.prefixes, p)
		}
	}
	l.text = strings.Join(entries, ", ")
	return l, nil
}

// parseNetwork reads one network or address. Errors of netip are not wrapped:
// they say less.
func parseNetwork(entry string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(entry); err == nil {
		if a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("allowlist entry %q: an address with a zone cannot be listed", entry)
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(entry)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("allowlist entry %q: want a network (10.0.0.0/8, fd00::/8), an address, loopback or samehost", entry)
	}
	if m := p.Masked(); m != p {
		return netip.Prefix{}, fmt.Errorf("allowlist entry %q has bits beyond its length: %s is meant?", entry, m)
	}
	return unmapPrefix(p), nil
}

// unmapPrefix makes ::ffff:10.0.0.0/104 what it means, 10.0.0.0/8: clients'
// addresses are unmapped too, and netip matches the one never with the other.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// String returns the list as it was written.
func (l *AllowList) String() string {
	if l == nil {
		return ""
	}
	return l.text
}

// Contains says whether a client from a may read. The zero address is a client
// on a unix socket and counts as loopback.
func (l *AllowList) Contains(a netip.Addr) bool {
	if l == nil {
		return false
	}
	a = a.Unmap().WithZone("")
	local := !a.IsValid() || a.IsLoopback()
	if (l.loopback || l.samehost) && local {
		return true
	}
	return prefixesContain(l.prefixes, a) || l.samehost && l.isOwn(a)
}

// loopbacks are what a unix-socket client may be listed as.
var loopbacks = [...]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// prefixesContain matches an unmapped address without zone; the zero address
// matches where a loopback address would.
func prefixesContain(prefixes []netip.Prefix, a netip.Addr) bool {
	if !a.IsValid() {
		return slices.ContainsFunc(loopbacks[:], func(lo netip.Addr) bool { return prefixesContain(prefixes, lo) })
	}
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// recordAllows applies a secret's own allowed_cidrs: none means any address.
func recordAllows(cidrs []netip.Prefix, a netip.Addr) bool {
	if len(cidrs) == 0 {
		return true
	}
	a = a.Unmap().WithZone("")
	for _, p := range cidrs {
		one := [1]netip.Prefix{unmapPrefix(p)}
		if prefixesContain(one[:], a) {
			return true
		}
	}
	return false
}

// isOwn says whether a is an address of this host. If the addresses cannot be
// listed, none is.
func (l *AllowList) isOwn(a netip.Addr) bool {
	now := time.Now()
	own := l.own.Load()
	if own == nil || now.Sub(own.at) > sameHostTTL {
		own = &ownAddrs{at: now}
		list, err := l.interfaces()
		if err != nil {
			list = nil
		}
		for _, n := range list {
			if p, err := netip.ParsePrefix(n.String()); err == nil {
				own.addrs = append(own.addrs, p.Addr().Unmap().WithZone(""))
			}
		}
		l.own.Store(own)
	}
	return slices.Contains(own.addrs, a)
}

// addrText names a client's address in an error.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return "a unix socket"
	}
	return a.Unmap().String()
}

// checkAddr refuses an actor who is not in the allowlist of his face. By REST a
// token may stand in its place.
func (v *Vault) checkAddr(a Actor) *Error {
	if a.Via == ViaREST {
		return v.checkRESTAddr(a)
	}
	if v.allowed.Load().Contains(a.Addr) {
		return nil
	}
	return &Error{
		Kind: KindDenied, reason: byAddress,
		Msg:  "secrets are not opened for clients from " + addrText(a.Addr),
		Hint: fmt.Sprintf("Add the address to VAULT_PROXY_ALLOWED_IPS (or to VAULT_ALLOWED_IPS, if that is not set) of node %q.", v.node),
	}
}

// checkCIDRs refuses an actor whom the secret's own list leaves out.
func (v *Vault) checkCIDRs(a Actor, name string, cidrs []netip.Prefix) *Error {
	if recordAllows(cidrs, a.Addr) {
		return nil
	}
	return &Error{
		Kind: KindDenied, Secret: name, reason: byCIDRs,
		Msg:    fmt.Sprintf("secret %q is not opened for clients from %s", name, addrText(a.Addr)),
		Detail: fmt.Sprintf("The secret's allowed_cidrs leave the address out; node %q sees it as the client's.", v.node),
		Hint:   "Change the secret's allowed_cidrs, or connect from a listed address.",
	}
}
