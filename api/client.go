// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
)

const (
	headerForwarded = "X-Forwarded-For"

	// maxHops is more proxies than stand in a row anywhere.
	maxHops = 32
)

var errPeer = errors.New("the peer has no address") // nobody listens on sockets

// client returns the address of who sends a request: the peer's or, where that is a
// trusted proxy, the last in X-Forwarded-For that is none. What stands before it the
// client may have written itself. A trusted proxy that does not say whom it speaks
// for is refused: who comes through it would have its rights.
func (f *front) client(r *http.Request) (netip.Addr, error) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, errPeer
	}
	addr := peer.Addr().Unmap().WithZone("")
	lines := r.Header.Values(headerForwarded)
	for range maxHops {
		if !f.proxies.Contains(addr) {
			return addr, nil
		}
		var hop string
		hop, lines = lastHop(lines)
		var ok bool
		if addr, ok = parseHop(hop); !ok {
			break
		}
	}
	return peer.Addr().Unmap(), &problem{
		status: http.StatusForbidden, code: "denied",
		text: "a trusted proxy sent this without a usable " + headerForwarded + "; an administrator sees to the proxy, or to VAULT_TRUST_PROXY",
	}
}

// lastHop takes the last element off a list that may stand in several lines, "" if
// there is none; the lines that it returns share no memory with those that it got.
func lastHop(lines []string) (hop string, rest []string) {
	if len(lines) == 0 {
		return "", nil
	}
	rest = lines[:len(lines)-1]
	last := lines[len(lines)-1]
	if i := strings.LastIndexByte(last, ','); i >= 0 {
		return strings.TrimSpace(last[i+1:]), append(rest[:len(rest):len(rest)], last[:i])
	}
	return strings.TrimSpace(last), rest
}

// parseHop reads an element: an address, or one with a port as some proxies write it.
func parseHop(text string) (netip.Addr, bool) {
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		return withPort.Addr().Unmap(), withPort.Addr().Zone() == ""
	}
	text, bracket := strings.CutPrefix(text, "[")
	if bracket {
		var closed bool
		if text, closed = strings.CutSuffix(text, "]"); !closed {
			return netip.Addr{}, false
		}
	}
	addr, err := netip.ParseAddr(text)
	return addr.Unmap(), err == nil && addr.Zone() == "" && (!bracket || addr.Is6())
}
