// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// Whose address counts, behind proxies that are trusted and others.
func TestClient(t *testing.T) {
	const proxies = "10.0.0.0/24, 2001:db8:ffff::/48"
	for _, c := range []struct {
		name, trusted, peer string
		lines               []string
		want                string // empty: denied
	}{
		{"nobody is trusted", "", "10.0.0.1:5", []string{"1.2.3.4"}, "10.0.0.1"},
		{"a stranger's header", proxies, "192.0.2.1:5", []string{"1.2.3.4"}, "192.0.2.1"},
		{"a stranger without one", proxies, "192.0.2.1:5", nil, "192.0.2.1"},
		{"through a proxy", proxies, "10.0.0.1:5", []string{"192.0.2.7"}, "192.0.2.7"},
		{"forged by the client", proxies, "10.0.0.1:5", []string{"127.0.0.1, 192.0.2.7"}, "192.0.2.7"},
		{"forged as a proxy", proxies, "10.0.0.1:5", []string{"127.0.0.1, 10.0.0.2, 192.0.2.7"}, "192.0.2.7"},
		{"through two proxies", proxies, "10.0.0.1:5", []string{"127.0.0.1, 192.0.2.7, 10.0.0.2"}, "192.0.2.7"},
		{"in several lines", proxies, "10.0.0.1:5", []string{"127.0.0.1", "192.0.2.7 ", "\t10.0.0.2,10.0.0.3"}, "192.0.2.7"},
		{"mapped addresses", proxies, "[::ffff:10.0.0.1]:5", []string{"::ffff:192.0.2.7, ::ffff:10.0.0.2"}, "192.0.2.7"},
		{"a mapped stranger", proxies, "[::ffff:192.0.2.1]:5", []string{"1.2.3.4"}, "192.0.2.1"},
		{"IPv6", proxies, "[2001:db8:ffff::1]:5", []string{"2001:db8::7"}, "2001:db8::7"},
		{"with ports", proxies, "10.0.0.1:5", []string{"192.0.2.7:1234, 10.0.0.2:1"}, "192.0.2.7"},
		{"IPv6 with a port", proxies, "10.0.0.1:5", []string{"[2001:db8::7]:1234"}, "2001:db8::7"},
		{"IPv6 in brackets", proxies, "10.0.0.1:5", []string{"[2001:db8::7]"}, "2001:db8::7"},
		{"mapped trust", "::ffff:10.0.0.0/120", "10.0.0.1:5", []string{"192.0.2.7"}, "192.0.2.7"},

		{"a proxy that says nothing", proxies, "10.0.0.1:5", nil, ""},
		{"an empty line", proxies, "10.0.0.1:5", []string{""}, ""},
		{"an empty element at the end", proxies, "10.0.0.1:5", []string{"192.0.2.7,"}, ""},
		{"an empty element within", proxies, "10.0.0.1:5", []string{"192.0.2.7,,10.0.0.2"}, ""},
		{"an empty last line", proxies, "10.0.0.1:5", []string{"192.0.2.7", ""}, ""},
		{"proxies alone", proxies, "10.0.0.1:5", []string{"10.0.0.3, 10.0.0.2"}, ""},
		{"unknown", proxies, "10.0.0.1:5", []string{"192.0.2.7, unknown"}, ""},
		{"no address", proxies, "10.0.0.1:5", []string{"192.0.2.7, 10.0.0.256"}, ""},
		{"a name", proxies, "10.0.0.1:5", []string{"localhost"}, ""},
		{"a network", proxies, "10.0.0.1:5", []string{"192.0.2.0/24"}, ""},
		{"leading zeros", proxies, "10.0.0.1:5", []string{"192.0.2.007"}, ""},
		{"a zone", proxies, "10.0.0.1:5", []string{"fe80::1%eth0"}, ""},
		{"a zone and a port", proxies, "10.0.0.1:5", []string{"[fe80::1%eth0]:5"}, ""},
		{"half a bracket", proxies, "10.0.0.1:5", []string{"[2001:db8::7"}, ""},
		{"IPv4 in brackets", proxies, "10.0.0.1:5", []string{"[192.0.2.7]"}, ""},
		{"quotes", proxies, "10.0.0.1:5", []string{`"192.0.2.7"`}, ""},
		{"blanks within", proxies, "10.0.0.1:5", []string{"192.0.2.7 10.0.0.2"}, ""},
		{"more hops than there are", proxies, "10.0.0.1:5", []string{"192.0.2.7" + strings.Repeat(",10.0.0.2", maxHops)}, ""},
		{"everybody is trusted", "0.0.0.0/0, ::/0", "10.0.0.1:5", []string{"192.0.2.7"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := vault.ParseAllowList(c.trusted)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.RemoteAddr = c.peer
			r.Header[headerForwarded] = c.lines
			sent := strings.Join(c.lines, "|")
			addr, err := (&front{proxies: list}).client(r)
			switch {
			case c.want == "" && err == nil:
				t.Errorf("got %v, want a refusal", addr)
			case c.want != "" && (err != nil || addr.String() != c.want):
				t.Errorf("got %v, %v, want %s", addr, err, c.want)
			}
			if got := strings.Join(r.Header[headerForwarded], "|"); got != sent {
				t.Errorf("the header is %q now", got)
			}
		})
	}
}
