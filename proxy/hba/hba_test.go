// SPDX-License-Identifier: GPL-3.0-or-later

package hba

import (
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// everybody is a line that admits who comes so far.
var everybody = Row{Line: 9, Type: "host", Databases: []string{"all"}, Users: []string{"all"}, Address: "all", Method: "scram-sha-256"}

// TestUnreadable: a file that the server does not load is no rules; a remark on
// a line that it does load is nothing.
func TestUnreadable(t *testing.T) {
	_, err := Parse([]Row{everybody, {Line: 4, Error: "invalid connection type"}})
	var unreadable *UnreadableError
	if !errors.As(err, &unreadable) || err.Error() != "line 4 of pg_hba.conf cannot be read: invalid connection type" {
		t.Errorf("got %v", err)
	}
	if _, err := Parse(nil); !errors.Is(err, ErrEmpty) {
		t.Errorf("no line: got %v", err)
	}
	remarked := everybody
	remarked.Error = "hostssl record cannot match because SSL is disabled"
	if _, err := Parse([]Row{remarked}); err != nil {
		t.Errorf("a remark: %v", err)
	}
}

// TestNotApplied: each thing that a node cannot tell ends the search, and only
// if nothing else rules the line out.
func TestNotApplied(t *testing.T) {
	line := func(change func(*Row)) Row {
		r := Row{Line: 3, Type: "host", Databases: []string{"all"}, Users: []string{"all"}, Address: "all", Method: "reject"}
		change(&r)
		return r
	}
	for name, c := range map[string]struct {
		row    Row
		reason string
	}{
		"type":       {line(func(r *Row) { r.Type = "hostnew" }), "its type hostnew is unknown"},
		"host name":  {line(func(r *Row) { r.Address = "db.example" }), "it names clients by host name (db.example)"},
		"no mask":    {line(func(r *Row) { r.Address = "10.0.0.1" }), "it names clients by host name (10.0.0.1)"},
		"mixed mask": {line(func(r *Row) { r.Address, r.Netmask = "10.0.0.1", "ffff::" }), "it names clients by host name (10.0.0.1)"},
		"samehost":   {line(func(r *Row) { r.Address = "samehost" }), "samehost and samenet are not known of a server on another host"},
		"member":     {line(func(r *Row) { r.Users = []string{"+staff"} }), "the members of a role are not known"},
		"expression": {line(func(r *Row) { r.File, r.Databases = "f", []string{"/^a"} }), "its regular expression was not compared"},
		"not ASCII":  {line(func(r *Row) { r.File, r.Users = "f", []string{"/ü"} }), "it compares other characters than ASCII by a regular expression"},
		"encoding":   {line(func(r *Row) { r.Users = []string{"m\xfcller"} }), "it holds a name in another encoding than the database's"},
		"replaced":   {line(func(r *Row) { r.Users = []string{"m\ufffdller"} }), "it holds a name in another encoding than the database's"},
		"method":     {line(func(r *Row) { r.Method = "gss" }), "its method is gss"},
		"new method": {line(func(r *Row) { r.Method = "oauth" }), "its method is oauth"},
		"clientcert": {line(func(r *Row) { r.Options = []string{"map=m", "clientcert=verify-full"} }), "it asks for a client certificate (clientcert=verify-full)"},
	} {
		t.Run(name, func(t *testing.T) {
			rules, err := Parse([]Row{c.row, everybody})
			if err != nil {
				t.Fatal(err)
			}
			client := Client{Addr: netip.MustParseAddr("192.0.2.7"), User: "alice", Database: "app"}
			want := Verdict{NotApplied, Line{c.row.File, 3}, c.reason}
			if got := rules.Decide(client, Facts{}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			c.row.Databases = []string{"other"}
			if c.row.File != "" && c.row.Users[0] == "all" {
				c.row.Databases = []string{"/^a"}
				c.row.Users = []string{"other"}
			}
			if rules, err = Parse([]Row{c.row, everybody}); err != nil {
				t.Fatal(err)
			}
			if got := rules.Decide(client, Facts{}); got.Outcome != Admitted || got.Line.Number != 9 {
				t.Errorf("a line for others: got %+v", got)
			}
		})
	}
}

// TestOneOfAListIsEnough: what is not known of one name does not matter if
// another one matches.
func TestOneOfAListIsEnough(t *testing.T) {
	for _, users := range [][]string{{"+staff", "alice"}, {"+alice"}} { // everybody is in himself
		row := everybody
		row.Users = users
		rules, err := Parse([]Row{row})
		if err != nil {
			t.Fatal(err)
		}
		client := Client{Addr: netip.MustParseAddr("192.0.2.7"), User: "alice", Database: "app"}
		if got := rules.Decide(client, Facts{}); got.Outcome != Admitted {
			t.Errorf("%q: got %+v", users, got)
		}
	}
}

// TestAsk: only what can matter is asked for.
func TestAsk(t *testing.T) {
	rules, err := Parse([]Row{
		{Line: 1, Type: "local", Databases: []string{"all"}, Users: []string{"+sockets"}, Method: "scram-sha-256"},
		{File: "f", Line: 2, Type: "host", Databases: []string{"/^x", "samerole"}, Users: []string{"+near"}, Address: "10.0.0.0", Netmask: "255.0.0.0", Method: "scram-sha-256"},
		{File: "f", Line: 3, Type: "host", Databases: []string{"all"}, Users: []string{"+far"}, Address: "192.0.2.0", Netmask: "255.255.255.0", Method: "scram-sha-256"},
		everybody,
		{Line: 10, Type: "host", Databases: []string{"all"}, Users: []string{"+late"}, Address: "samenet", Method: "scram-sha-256"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]Questions{
		"192.0.2.7":    {Roles: []string{"far"}},
		"10.1.1.1":     {Roles: []string{"app", "near"}, Matches: []Pattern{{"app", "^x"}}},
		"198.51.100.1": {},
	} {
		got := rules.Ask(Client{Addr: netip.MustParseAddr(addr), User: "alice", Database: "app"})
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", addr, got, want)
		}
	}
	if got := rules.Ask(Client{User: "alice", Database: "app"}); !reflect.DeepEqual(got, Questions{Roles: []string{"sockets"}}) {
		t.Errorf("socket: got %+v", got)
	}
}

// TestZones: link-local addresses have zones, masks have none.
func TestZones(t *testing.T) {
	row := everybody
	row.Address, row.Netmask = "fe80::", "ffc0::"
	rules, err := Parse([]Row{row})
	if err != nil {
		t.Fatal(err)
	}
	c := Client{Addr: netip.MustParseAddr("fe80::1%eth0"), User: "alice", Database: "app"}
	if got := rules.Decide(c, Facts{}); got.Outcome != Admitted {
		t.Errorf("got %+v", got)
	}
	row.Address, row.Netmask = "samenet", ""
	if rules, err = Parse([]Row{row}); err != nil {
		t.Fatal(err)
	}
	if got := rules.Decide(c, Facts{Interfaces: []netip.Prefix{netip.MustParsePrefix("fe80::2/64")}}); got.Outcome != Admitted {
		t.Errorf("samenet: got %+v", got)
	}
}

// TestLineSaysNoPath: the last part of a path is enough.
func TestLineSaysNoPath(t *testing.T) {
	if got := (Line{"/var/lib/postgresql/pg_hba.d/10.conf", 3}).String(); got != "line 3 of 10.conf" {
		t.Errorf("got %q", got)
	}
}

// FuzzRules: whatever rows come, nothing panics, nobody is admitted by rules
// that were not read, and what was answered as it was asked is never asked
// again.
func FuzzRules(f *testing.F) {
	seed, err := json.Marshal([]Row{
		{Line: 1, Type: "local", Databases: []string{"samerole"}, Users: []string{"+a"}, Method: "peer", Options: []string{"map=x"}},
		{File: "f", Line: 2, Type: "hostssl", Databases: []string{"/a"}, Users: []string{"/b"}, Address: "198.0.100.1", Netmask: "255.0.255.0", Method: "md5"},
		{Line: 3, Type: "host", Databases: []string{"sameuser", "replication"}, Users: []string{"all"}, Address: "samenet", Method: "reject"},
		everybody,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(seed), "198.51.100.7", "alice", "app", true, false)
	f.Add(string(seed), "", "b", "b", false, true)
	f.Add(string(seed), "fe80::1%x", "b", "a", false, false)
	f.Fuzz(func(t *testing.T, text, addr, user, database string, tls, physical bool) {
		var rows []Row
		if json.Unmarshal([]byte(text), &rows) != nil {
			return
		}
		rules, err := Parse(rows)
		if err != nil {
			return
		}
		c := Client{User: user, Database: database, TLS: tls, Physical: physical}
		if a, err := netip.ParseAddr(addr); err == nil {
			c.Addr = a.Unmap()
		}
		facts := Facts{Roles: map[string]bool{}, Matches: map[Pattern]bool{}}
		q := rules.Ask(c)
		for _, role := range q.Roles {
			facts.Roles[role] = false
		}
		for _, p := range q.Matches {
			facts.Matches[p] = false
		}
		if q.Interfaces {
			facts.Interfaces = []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24")}
		}
		v := rules.Decide(c, facts)
		if strings.Contains(v.Reason, "not known") || strings.Contains(v.Reason, "was not compared") {
			t.Errorf("not asked before: %+v", v)
		}
		if v.Outcome == Admitted && !slices.ContainsFunc(rows, func(r Row) bool {
			return r.Line == v.Line.Number && r.File == v.Line.File && slices.Contains([]string{"scram-sha-256", "md5", "password", "trust"}, r.Method)
		}) {
			t.Errorf("admitted: %+v", v)
		}
	})
}
