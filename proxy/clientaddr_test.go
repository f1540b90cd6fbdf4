// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/hba"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// peerConn is a connection that has only a peer.
type peerConn struct {
	net.Conn
	remote string
}

func (c peerConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.remote))
}

// TestStartupParams: the client's address is the node's word, and the last one.
func TestStartupParams(t *testing.T) {
	sent := []wire.Param{
		{Name: "user", Value: "alice"},
		{Name: "Hyperion_Vault.CLIENT_ADDR", Value: "10.9.9.9"},
		{Name: "options", Value: "-c hyperion_vault.client_addr=10.9.9.9"},
		{Name: "application_name", Value: "psql"},
		{Name: clientAddrSetting, Value: "10.9.9.9"},
	}
	for _, c := range []struct {
		peer    string
		addHost bool
		want    []wire.Param
	}{
		{"192.0.2.7:4711", false, []wire.Param{sent[0], sent[2], sent[3], {Name: clientAddrSetting, Value: "192.0.2.7"}}},
		{"[fe80::1%eth0]:4711", false, []wire.Param{sent[0], sent[2], sent[3], {Name: clientAddrSetting, Value: "fe80::1"}}},
		{"", false, []wire.Param{sent[0], sent[2], sent[3], {Name: clientAddrSetting}}},
		{"192.0.2.7:4711", true, []wire.Param{
			sent[0], sent[2],
			{Name: "application_name", Value: "psql - 192.0.2.7:4711"},
			{Name: clientAddrSetting, Value: "192.0.2.7"},
		}},
		{"", true, []wire.Param{sent[0], sent[2], {Name: "application_name", Value: "psql - unix"}, {Name: clientAddrSetting}}},
	} {
		ss := &session{params: sent}
		if c.peer != "" {
			ss.accepted = peerConn{remote: c.peer}
			ss.peer = netip.MustParseAddrPort(c.peer).Addr()
		}
		s := &Server{cfg: Config{AppnameAddHost: c.addHost}}
		if got := s.startupParams(ss); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q, %v:\ngot  %q\nwant %q", c.peer, c.addHost, got, c.want)
		}
	}
}

// TestAddHost: of a name that is too long the address stays.
func TestAddHost(t *testing.T) {
	const name = "application_name"
	for _, c := range []struct {
		sent []wire.Param
		want string
	}{
		{nil, "app - 192.0.2.7:4711"},
		{[]wire.Param{{Name: name, Value: ""}}, " - 192.0.2.7:4711"},
		{[]wire.Param{{Name: name, Value: "first"}, {Name: "APPLICATION_NAME", Value: "last"}}, "last - 192.0.2.7:4711"},
		{[]wire.Param{{Name: name, Value: strings.Repeat("x", 60)}}, strings.Repeat("x", 46) + " - 192.0.2.7:4711"},
		{[]wire.Param{{Name: name, Value: "x" + strings.Repeat("ä", 30)}}, "x" + strings.Repeat("ä", 22) + " - 192.0.2.7:4711"},
	} {
		want := []wire.Param{{Name: name, Value: c.want}}
		if got := addHost(c.sent, "192.0.2.7:4711"); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %q, want %q", c.sent, got, want)
		}
	}
}

// TestIsPhysical reads the parameter as the server does.
func TestIsPhysical(t *testing.T) {
	for values, want := range map[string]bool{
		"": false, "true": true, "database": false, "off": false, "false true": true, "true false": false, "database true": false, "true database": false,
	} {
		var params []wire.Param
		for _, v := range strings.Fields(values) {
			params = append(params, wire.Param{Name: "replication", Value: v})
		}
		if got := isPhysical(params); got != want {
			t.Errorf("%q: got %v, want %v", values, got, want)
		}
	}
}

// TestHBARefusals: in PostgreSQL's words, but for what only a node refuses.
func TestHBARefusals(t *testing.T) {
	remote := hba.Client{Addr: netip.MustParseAddr("fe80::1%eth0"), User: `o"dd`, Database: "app", TLS: true}
	replica := hba.Client{Addr: netip.MustParseAddr("192.0.2.7"), User: "rep", Database: "app", Physical: true}
	for _, c := range []struct {
		client  hba.Client
		verdict hba.Verdict
		want    string
		detail  string
	}{
		{remote, hba.Verdict{}, `no pg_hba.conf entry for host "fe80::1%eth0", user "o"dd", database "app", SSL encryption`, ""},
		{replica, hba.Verdict{}, `no pg_hba.conf entry for replication connection from host "192.0.2.7", user "rep", no encryption`, ""},
		{replica, hba.Verdict{Outcome: hba.Rejected}, `pg_hba.conf rejects replication connection for host "192.0.2.7", user "rep", no encryption`, ""},
		{
			hba.Client{User: "alice", Database: "app"},
			hba.Verdict{Outcome: hba.Rejected},
			`pg_hba.conf rejects connection for host "[local]", user "alice", database "app", no encryption`, "",
		},
		{
			remote,
			hba.Verdict{Outcome: hba.NotApplied, Line: hba.Line{Number: 3}, Reason: "its method is ldap"},
			"line 3 of pg_hba.conf decides about this connection, and a node cannot apply it", "Of that line: its method is ldap.",
		},
	} {
		got := refusal(c.client, c.verdict)
		if !got.fatal || got.code != "28000" || got.message != c.want || got.detail != c.detail {
			t.Errorf("got %+v, want %q", got, c.want)
		}
	}
}

// TestRefusesClientAddr: only what a pooler says of the node's own parameter.
func TestRefusesClientAddr(t *testing.T) {
	for body, want := range map[string]bool{
		"SFATAL\x00C08P01\x00Munsupported startup parameter: hyperion_vault.client_addr\x00\x00": true,
		"SFATAL\x00C08P01\x00Munsupported startup parameter: search_path\x00\x00":                false,
		"SFATAL\x00C3D000\x00Mdatabase \"hyperion_vault.client_addr\" does not exist\x00\x00":    false,
		"": false,
	} {
		if got := refusesClientAddr([]byte(body)); got != want {
			t.Errorf("%q: got %v", body, got)
		}
	}
}
