// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package vault

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
	"github.com/hyperiondb/hyperion-vault/proxy/hba"
)

// testRules: the rules are read once for each load of the server's, however
// many log-ins there are.
func testRules(t *testing.T, c *devcluster.Cluster, v *Vault) {
	t.Helper()
	rules := func() *hba.Rules {
		t.Helper()
		if _, _, err := v.LoginVerifier(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		r, err := v.HBA(t.Context())
		if err != nil || r == nil {
			t.Fatalf("rules %v, %v", r, err)
		}
		return r
	}
	first := rules()
	for range 20 {
		if rules() != first {
			t.Fatal("the rules were read again without a reload")
		}
	}
	run(t, c, "SELECT pg_catalog.pg_reload_conf()")
	eventually(t, "the rules to be read again", func() bool { return rules() != first })
	verdict, err := v.Admits(t.Context(), hba.Client{Addr: netip.MustParseAddr("127.0.0.1"), User: "alice", Database: "app"})
	if err != nil || verdict.Outcome != hba.Admitted {
		t.Errorf("loopback: %+v, %v", verdict, err)
	}
	if verdict, err = v.Admits(t.Context(), hba.Client{Addr: netip.MustParseAddr("192.0.2.7"), User: "alice", Database: "app"}); err != nil || verdict.Outcome != hba.NoEntry {
		t.Errorf("elsewhere: %+v, %v", verdict, err)
	}
}

// testFacts: the server answers as it would itself.
func testFacts(t *testing.T, c *devcluster.Cluster, v *Vault) {
	t.Helper()
	run(t, c,
		"CREATE ROLE facts_outer", "CREATE ROLE facts_inner IN ROLE facts_outer", `CREATE ROLE "facts other"`,
		"CREATE ROLE facts_user NOINHERIT LOGIN", "GRANT facts_inner TO facts_user", "CREATE ROLE facts_super SUPERUSER LOGIN")
	asked := hba.Questions{
		Roles: []string{"facts_outer", "facts_inner", "facts other", "no such role", "facts_user", "facts_outer"},
		Matches: []hba.Pattern{
			{Text: "facts_user", Expression: "^facts"},
			{Text: "facts_user", Expression: "^user"},
			{Text: "facts_user", Expression: `\muser|_`},
			{Text: "Facts", Expression: "f"},
			{Text: "facts", Expression: "(?i)^FACTS$"},
		},
		Interfaces: true,
	}
	got, err := v.facts(t.Context(), "facts_user", asked)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"facts_outer": true, "facts_inner": true, "facts other": false, "no such role": false, "facts_user": true}
	if !reflect.DeepEqual(got.Roles, want) {
		t.Errorf("roles: got %v, want %v", got.Roles, want)
	}
	for i, matches := range []bool{true, false, true, false, true} {
		if p := asked.Matches[i]; got.Matches[p] != matches {
			t.Errorf("%q: got %v, want %v", p, got.Matches[p], matches)
		}
	}
	if len(got.Interfaces) == 0 {
		t.Error("no interface of this host")
	}
	if got, err = v.facts(t.Context(), "facts_super", hba.Questions{Roles: []string{"facts_outer"}}); err != nil || got.Roles["facts_outer"] {
		t.Errorf("a superuser is not in a role by that: %v, %v", got.Roles, err)
	}
	if _, err := v.facts(t.Context(), "facts_user", hba.Questions{Matches: []hba.Pattern{{Text: "x", Expression: "("}}}); err == nil {
		t.Error("an expression that is none was compared")
	}
}

// TestInterfacesOf: of another host they are not known.
func TestInterfacesOf(t *testing.T) {
	for server, known := range map[Server]bool{
		{"unix", "/run/postgresql/.s.PGSQL.5432"}: true, {"tcp", "127.0.0.1:5432"}: true, {"tcp", "localhost:5432"}: true,
		{"tcp", "203.0.113.250:5432"}: false, {"tcp", "db.example:5432"}: false,
	} {
		got, err := interfacesOf(server)
		if err != nil || (got != nil) != known {
			t.Errorf("%v: got %v, %v; known %v", server, got, err, known)
		}
	}
}
