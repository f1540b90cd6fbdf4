// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package proxy

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// restCase is an operation by REST, who asks for it, and its records.
type restCase struct {
	name string
	as   *vault.Access
	run  restRun
	want []string
}

type restRun func(as *vault.Access) error

// restNode is a node with an administrator and one who may nothing.
type restNode struct {
	*testNode
	sink        *testSink
	admin, poor *vault.Access
	token       string // the poor one's
}

var home = netip.MustParseAddr("127.0.0.1")

func newRESTNode(t *testing.T) *restNode {
	t.Helper()
	n, sink := auditedNode(t)
	rest := &restNode{testNode: n, sink: sink}
	rest.admin = rest.access(t, n.AdminToken, home, "init", "admin")
	rest.token = rest.bearer(t, "poor", vault.Role{})
	rest.poor = rest.access(t, rest.token, home, "poor", "poor")
	return rest
}

// run runs operations, compares what each has left and in whose name, and that each of the server's
// changes is named.
func (n *restNode) run(t *testing.T, cases []restCase) {
	t.Helper()
	n.sink.take()
	last := slices.Max(n.changes(t, 0))
	for _, tt := range cases {
		err := tt.run(tt.as)
		n.sink.checkWhose(t, tt.name, tt.as.Actor)
		got, ids := n.sink.takeChanges()
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s (%v): recorded\n%q, want\n%q", tt.name, err, got, tt.want)
		}
		if rows := n.changes(t, last); !slices.Equal(ids, rows) {
			t.Errorf("%s: the records name changes %v, the server has %v", tt.name, ids, rows)
		}
		if len(ids) > 0 {
			last = ids[len(ids)-1]
		}
	}
}

// Each operation by REST, and each refusal, as for SQL.
func TestRecordsOfREST(t *testing.T) {
	n, ctx := newRESTNode(t), t.Context()
	admin, poor := n.admin, n.poor
	text, secs, at := "about it", int64(3600), time.Now().Add(time.Hour)
	n.run(t, []restCase{
		{"create", admin, func(as *vault.Access) error {
			_, err := n.core.Create(ctx, as, "r/a", true, vault.Change{})
			return err
		}, []string{"create ok r/a v1 change direct"}},
		{"create with more", admin, func(as *vault.Access) error {
			_, err := n.core.Create(ctx, as, "r/b", false, vault.Change{Value: []byte("x"), Description: &text})
			return err
		}, []string{"create ok r/b v1 change direct", "update ok r/b v1 change direct"}},
		{"create again", admin, func(as *vault.Access) error {
			_, err := n.core.Create(ctx, as, "r/a", true, vault.Change{})
			return err
		}, []string{"create failed (exists) r/a direct"}},
		{"update", admin, func(as *vault.Access) error {
			_, err := n.core.Update(ctx, as, "r/b", 0, vault.Change{Value: []byte("y")})
			return err
		}, []string{"update ok r/b v2 change direct"}},
		{"update without a value", admin, func(as *vault.Access) error {
			_, err := n.core.Update(ctx, as, "r/a", 1, vault.Change{Description: &text, RotationInterval: &secs, NextRotationAt: &at})
			return err
		}, []string{"update ok r/a v1 change direct", "update ok r/a v1 change direct"}},
		{"update of another version", admin, func(as *vault.Access) error {
			_, err := n.core.Update(ctx, as, "r/b", 7, vault.Change{Value: []byte("z")})
			return err
		}, []string{"update failed (changed) r/b direct"}},
		{"update of nothing", admin, func(as *vault.Access) error {
			_, err := n.core.Update(ctx, as, "r/none", 0, vault.Change{Value: []byte("z")})
			return err
		}, []string{"update failed (missing) r/none direct"}},
		{"rotate", admin, func(as *vault.Access) error {
			_, err := n.core.Rotate(ctx, as, "r/a")
			return err
		}, []string{"rotate ok r/a v2 change direct"}},
		{"read", admin, func(as *vault.Access) error { _, err := n.core.Read(ctx, as, "r/b", 0); return err }, []string{"read ok r/b v2 direct"}},
		{"read nothing", admin, func(as *vault.Access) error { _, err := n.core.Read(ctx, as, "r/none", 0); return err }, []string{"read failed (missing) r/none direct"}},
		{"read no name", admin, func(as *vault.Access) error { _, err := n.core.Read(ctx, as, "no name", 0); return err }, []string{"read failed (invalid) direct"}},
		{"read many", admin, func(as *vault.Access) error {
			_, err := n.core.ReadMany(ctx, as, []string{"r/a", "r/none", "r/b"})
			return err
		}, []string{"read failed (missing) r/none direct", "read ok r/a v2 direct", "read ok r/b v2 direct"}},
		{"verify", admin, func(as *vault.Access) error { _, err := n.core.Verify(ctx, as, "r/b", []byte("y")); return err }, []string{"verify ok r/b v2 direct"}},
		{"verify amiss", admin, func(as *vault.Access) error { _, err := n.core.Verify(ctx, as, "r/b", []byte("q")); return err }, []string{"verify mismatch r/b direct"}},
		{"list", admin, func(as *vault.Access) error { _, _, err := n.core.List(ctx, as, "r/", "", 10); return err }, []string{"list ok r/ direct"}},
		{"list what no name begins with", admin, func(as *vault.Access) error { _, _, err := n.core.List(ctx, as, "hunter 2", "", 10); return err }, []string{"list ok direct"}},
		{"a token in a name's place", admin, func(as *vault.Access) error { return n.core.RevokeToken(ctx, as, n.token) }, []string{"token_revoke failed (missing) direct"}},
		{"the same, denied", poor, func(as *vault.Access) error { return n.core.RevokeToken(ctx, as, n.token) }, []string{"token_revoke denied (admin) direct"}},
		{"a token named by one", admin, func(as *vault.Access) error { _, err := n.core.CreateToken(ctx, as, n.token, "poor"); return err }, []string{"token_create failed (invalid) direct"}},
		{"versions", admin, func(as *vault.Access) error { _, err := n.core.Versions(ctx, as, "r/b"); return err }, []string{"list ok r/b direct"}},
		{"versions of nothing", admin, func(as *vault.Access) error { _, err := n.core.Versions(ctx, as, "r/none"); return err }, []string{"list failed (missing) r/none direct"}},
		{"delete", admin, func(as *vault.Access) error { return n.core.Delete(ctx, as, "r/b", 2) }, []string{"delete ok r/b v2 change direct"}},
		{"delete again", admin, func(as *vault.Access) error { return n.core.Delete(ctx, as, "r/b", 0) }, []string{"delete failed (missing) r/b direct"}},
	})
}

// The same of roles and tokens; and which rule denied it, whoever asks.
func TestRecordsOfRESTRoles(t *testing.T) {
	n, ctx := newRESTNode(t), t.Context()
	admin := n.admin
	n.run(t, []restCase{
		{"create a role", admin, func(as *vault.Access) error {
			_, err := n.core.CreateRole(ctx, as, vault.Role{Name: "clerks"})
			return err
		}, []string{"role_create ok clerks change direct"}},
		{"create it again", admin, func(as *vault.Access) error {
			_, err := n.core.CreateRole(ctx, as, vault.Role{Name: "clerks"})
			return err
		}, []string{"role_create failed (exists) clerks direct"}},
		{"change it", admin, func(as *vault.Access) error {
			_, err := n.core.SetPermissions(ctx, as, "clerks", []vault.Permission{{Action: "read", Path: "*"}})
			return err
		}, []string{"role_update ok clerks change direct"}},
		{"list roles", admin, func(as *vault.Access) error { _, _, err := n.core.Roles(ctx, as, "", 10); return err }, []string{"role_list ok direct"}},
		{"create a token", admin, func(as *vault.Access) error { _, err := n.core.CreateToken(ctx, as, "ann", "clerks"); return err }, []string{"token_create ok ann change direct"}},
		{"a token of no role", admin, func(as *vault.Access) error { _, err := n.core.CreateToken(ctx, as, "bob", "none"); return err }, []string{"token_create failed (invalid) bob direct"}},
		{"list tokens", admin, func(as *vault.Access) error { _, _, err := n.core.Tokens(ctx, as, "", 10); return err }, []string{"token_list ok direct"}},
		{"a role in use", admin, func(as *vault.Access) error { return n.core.DeleteRole(ctx, as, "clerks") }, []string{"role_delete failed (in_use) clerks direct"}},
		{"revoke", admin, func(as *vault.Access) error { return n.core.RevokeToken(ctx, as, "ann") }, []string{"token_revoke ok ann change direct"}},
		{"delete the role", admin, func(as *vault.Access) error { return n.core.DeleteRole(ctx, as, "clerks") }, []string{"role_delete ok clerks change direct"}},
	})
	n.run(t, n.denials(t))
	n.run(t, n.lockouts(t))
}
