// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package proxy

import (
	"net/netip"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// access is who bears a token, from an address: name and role are the token's.
func (n *restNode) access(t *testing.T, token string, addr netip.Addr, name, role string) *vault.Access {
	t.Helper()
	a, err := n.core.Authenticate(t.Context(), token, addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := (vault.Actor{Name: name, Role: role, Via: vault.ViaREST, Addr: addr, Database: n.Database}); a.Actor != want {
		t.Errorf("a token is %+v's, want %+v", a.Actor, want)
	}
	return a
}

// bearer makes a role with these permissions and a token of it.
func (n *restNode) bearer(t *testing.T, name string, role vault.Role) string {
	t.Helper()
	role.Name = name
	if _, err := n.core.CreateRole(t.Context(), n.admin, role); err != nil {
		t.Fatal(err)
	}
	token, err := n.core.CreateToken(t.Context(), n.admin, name, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(token)
}

// denials is an operation for each rule of REST that may deny it, and for those who are
// asked for more than one. They are left with a node that asks everybody for a token.
func (n *restNode) denials(t *testing.T) []restCase {
	t.Helper()
	ctx, far := t.Context(), netip.MustParseAddr("203.0.113.9")
	for name, cidrs := range map[string]*[]string{"d/a": nil, "d/far": {"203.0.113.0/24"}} {
		if _, err := n.core.Create(ctx, n.admin, name, false, vault.Change{Value: []byte("x"), AllowedCIDRs: cidrs}); err != nil {
			t.Fatal(err)
		}
	}
	reader := n.access(t, n.bearer(t, "reader", vault.Role{Permissions: []vault.Permission{{Action: "read", Path: "d/*"}}}), home, "reader", "reader")
	nobody, stranger := n.access(t, "", home, "ip", "ip"), n.access(t, "", far, "ip", "")
	was := n.bearer(t, "was", vault.Role{Admin: true}) // an administrator's, when the local server was asked
	gone := n.access(t, was, home, "was", "was")
	if err := n.core.RevokeToken(ctx, n.admin, "was"); err != nil {
		t.Fatal(err)
	}
	read := func(name string) restRun {
		return func(as *vault.Access) error { _, err := n.core.Read(ctx, as, name, 0); return err }
	}
	verify := func(name string) restRun {
		return func(as *vault.Access) error { _, err := n.core.Verify(ctx, as, name, []byte("y")); return err }
	}
	many := func(names ...string) restRun {
		return func(as *vault.Access) error { _, err := n.core.ReadMany(ctx, as, names); return err }
	}
	byToken := func(run restRun) restRun {
		return func(as *vault.Access) error { n.core.SetReadAuth(vault.ReadByToken); return run(as) }
	}
	return []restCase{
		{"no permission", n.poor, read("d/a"), []string{"read denied (role) d/a direct"}},
		{"none, for what is not there", n.poor, read("d/none"), []string{"read denied (role) d/none direct"}},
		{"none to write", reader, func(as *vault.Access) error { return n.core.Delete(ctx, as, "d/a", 0) }, []string{"delete denied (role) d/a direct"}},
		{"none, before a request is read", reader, func(as *vault.Access) error { return n.core.Permit(ctx, as, vault.ActionRotate, "d/a") }, []string{"rotate denied (role) d/a direct"}},
		{"names of a batch", reader, many("d/far", "e/a", "d/a", "e/a", "d/none"), []string{
			"read denied (role) e/a direct", "read failed (missing) d/none direct", "read denied (cidrs) d/far direct", "read ok d/a v1 direct",
		}},
		{"all of them", n.poor, many("d/far", "d/a"), []string{"read denied (role) d/far direct", "read denied (role) d/a direct"}},
		{"the secret's list", reader, read("d/far"), []string{"read denied (cidrs) d/far v1 direct"}},
		{"an administrator as well", n.admin, verify("d/far"), []string{"verify denied (cidrs) d/far direct"}},

		{"the node's list", stranger, read("d/a"), []string{"read denied (address) d/a direct"}},
		{"which is asked first", stranger, read("d/far"), []string{"read denied (address) d/far direct"}},
		{"of a verify", stranger, verify("d/a"), []string{"verify denied (address) d/a direct"}},
		{"of a batch", stranger, many("d/a", "d/far"), []string{"read denied (address) direct"}},

		{"no administrator", reader, func(as *vault.Access) error { return n.core.DeleteRole(ctx, as, "poor") }, []string{"role_delete denied (admin) poor direct"}},
		{"nor for a list", reader, func(as *vault.Access) error { _, _, err := n.core.Tokens(ctx, as, "", 10); return err }, []string{"token_list denied (admin) direct"}},
		{"none any more, for the primary", gone, func(as *vault.Access) error { return n.core.DeleteRole(ctx, as, "poor") }, []string{"role_delete denied (admin) poor direct"}},
		{"no token any more, for the primary", gone, func(as *vault.Access) error { return n.core.Delete(ctx, as, "d/a", 0) }, []string{"delete denied (unknown) d/a direct"}},

		{"a write without a token", nobody, func(as *vault.Access) error { return n.core.Delete(ctx, as, "d/a", 0) }, []string{"delete denied (token) d/a direct"}},
		{"a list without one", nobody, func(as *vault.Access) error { _, _, err := n.core.List(ctx, as, "d/", "", 10); return err }, []string{"list denied (token) direct"}},
		{"an administrator's without one", nobody, func(as *vault.Access) error { return n.core.RevokeToken(ctx, as, "poor") }, []string{"token_revoke denied (token) poor direct"}},
		{"a read, if it asks for one", nobody, byToken(read("d/a")), []string{"read denied (token) d/a direct"}},
		{"a batch", nobody, byToken(many("d/a")), []string{"read denied (token) direct"}},
	}
}

// lockouts is what counts misses: of a verify and of tokens.
func (n *restNode) lockouts(t *testing.T) []restCase {
	t.Helper()
	ctx := t.Context()
	n.core.SetMisses(2, time.Hour, time.Hour)
	verify := func(as *vault.Access) error { _, err := n.core.Verify(ctx, as, "d/a", []byte("y")); return err }
	stranger := &vault.Access{Actor: vault.Actor{Via: vault.ViaREST, Addr: home, Database: n.Database}}
	guess := func(*vault.Access) error { _, err := n.core.Authenticate(ctx, "hvt_x", home, nil); return err }
	return []restCase{
		{"a wrong value", n.admin, verify, []string{"verify mismatch d/a direct"}},
		{"another", n.admin, verify, []string{"verify mismatch d/a direct"}},
		{"too many", n.admin, verify, []string{"verify locked_out (limited) d/a direct"}},
		{"a token that nobody has", stranger, guess, []string{"login denied (unknown)"}},
		{"another", stranger, guess, []string{"login denied (unknown)"}},
		{"too many", stranger, guess, []string{"login locked_out (limited) direct"}},
	}
}
