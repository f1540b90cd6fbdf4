// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package proxy

import (
	"net/netip"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// access is who bears a token, from an address.
func (n *restNode) access(t *testing.T, token string, addr netip.Addr) *vault.Access {
	t.Helper()
	a, err := n.core.Authenticate(t.Context(), token, addr, nil)
	if err != nil {
		t.Fatal(err)
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
	reader := n.access(t, n.bearer(t, "reader", vault.Role{Permissions: []vault.Permission{{Action: "read", Path: "d/*"}}}), home)
	nobody, stranger := n.access(t, "", home), n.access(t, "", far)
	was := n.bearer(t, "was", vault.Role{Admin: true}) // an administrator's, when the local server was asked
	gone := n.access(t, was, home)
	if err := n.core.RevokeToken(ctx, n.admin, "was"); err != nil {
		t.Fatal(err)
	}
	read := func(a *vault.Access, name string) func() error {
		return func() error { _, err := n.core.Read(ctx, a, name, 0); return err }
	}
	verify := func(a *vault.Access, name string) func() error {
		return func() error { _, err := n.core.Verify(ctx, a, name, []byte("y")); return err }
	}
	many := func(a *vault.Access, names ...string) func() error {
		return func() error { _, err := n.core.ReadMany(ctx, a, names); return err }
	}
	byToken := func(run func() error) func() error {
		return func() error { n.core.SetReadAuth(vault.ReadByToken); return run() }
	}
	return []restCase{
		{"no permission", read(n.poor, "d/a"), []string{"read denied (role) d/a direct"}},
		{"none, for what is not there", read(n.poor, "d/none"), []string{"read denied (role) d/none direct"}},
		{"none to write", func() error { return n.core.Delete(ctx, reader, "d/a", 0) }, []string{"delete denied (role) d/a direct"}},
		{"none, before a request is read", func() error { return n.core.Permit(ctx, reader, vault.ActionRotate, "d/a") }, []string{"rotate denied (role) d/a direct"}},
		{"names of a batch", many(reader, "d/far", "e/a", "d/a", "e/a", "d/none"), []string{
			"read denied (role) e/a direct", "read failed (missing) d/none direct", "read denied (cidrs) d/far direct", "read ok d/a v1 direct",
		}},
		{"all of them", many(n.poor, "d/far", "d/a"), []string{"read denied (role) d/far direct", "read denied (role) d/a direct"}},
		{"the secret's list", read(reader, "d/far"), []string{"read denied (cidrs) d/far v1 direct"}},
		{"an administrator as well", verify(n.admin, "d/far"), []string{"verify denied (cidrs) d/far direct"}},

		{"the node's list", read(stranger, "d/a"), []string{"read denied (address) d/a direct"}},
		{"which is asked first", read(stranger, "d/far"), []string{"read denied (address) d/far direct"}},
		{"of a verify", verify(stranger, "d/a"), []string{"verify denied (address) d/a direct"}},
		{"of a batch", many(stranger, "d/a", "d/far"), []string{"read denied (address) direct"}},

		{"no administrator", func() error { return n.core.DeleteRole(ctx, reader, "poor") }, []string{"role_delete denied (admin) poor direct"}},
		{"nor for a list", func() error { _, _, err := n.core.Tokens(ctx, reader, "", 10); return err }, []string{"token_list denied (admin) direct"}},
		{"none any more, for the primary", func() error { return n.core.DeleteRole(ctx, gone, "poor") }, []string{"role_delete denied (admin) poor direct"}},
		{"no token any more, for the primary", func() error { return n.core.Delete(ctx, gone, "d/a", 0) }, []string{"delete denied (unknown) d/a direct"}},

		{"a write without a token", func() error { return n.core.Delete(ctx, nobody, "d/a", 0) }, []string{"delete denied (token) d/a direct"}},
		{"a list without one", func() error { _, _, err := n.core.List(ctx, nobody, "d/", "", 10); return err }, []string{"list denied (token) direct"}},
		{"an administrator's without one", func() error { return n.core.RevokeToken(ctx, nobody, "poor") }, []string{"token_revoke denied (token) poor direct"}},
		{"a read, if it asks for one", byToken(read(nobody, "d/a")), []string{"read denied (token) d/a direct"}},
		{"a batch", byToken(many(nobody, "d/a")), []string{"read denied (token) direct"}},
	}
}

// lockouts is what counts misses: of a verify and of tokens.
func (n *restNode) lockouts(t *testing.T) []restCase {
	t.Helper()
	ctx := t.Context()
	n.core.SetMisses(2, time.Hour, time.Hour)
	verify := func() error { _, err := n.core.Verify(ctx, n.admin, "d/a", []byte("y")); return err }
	guess := func() error { _, err := n.core.Authenticate(ctx, "hvt_x", home, nil); return err }
	return []restCase{
		{"a wrong value", verify, []string{"verify mismatch d/a direct"}},
		{"another", verify, []string{"verify mismatch d/a direct"}},
		{"too many", verify, []string{"verify locked_out (limited) d/a direct"}},
		{"a token that nobody has", guess, []string{"login denied (unknown)"}},
		{"another", guess, []string{"login denied (unknown)"}},
		{"too many", guess, []string{"login locked_out (limited) direct"}},
	}
}
