// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// Who is no administrator hears so before anything is asked of a server, whatever he
// sends, and it is recorded.
func TestPermitAdmin(t *testing.T) {
	v, _, sink := newTestVault(t, nil)
	for _, c := range []struct {
		name string
		a    *Access
		want Kind
	}{
		{"no token", &Access{Actor: Actor{Name: nobody, Via: ViaREST}, rules: []rule{{"*", "*"}}}, KindUnknown},
		{"every rule", &Access{Actor: Actor{Name: "x", Role: "all", Via: ViaREST}, token: true, rules: []rule{{"*", "*"}}}, KindDenied},
		{"a role called admin", &Access{Actor: Actor{Name: "x", Role: "admin", Via: ViaREST}, token: true}, KindDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, long := t.Context(), strings.Repeat("t", 10_000)
			for action, do := range map[audit.Action]func() error{
				audit.ActionRoleCreate:  func() error { _, err := v.CreateRole(ctx, c.a, Role{Name: "x"}); return err },
				audit.ActionRoleUpdate:  func() error { _, err := v.SetPermissions(ctx, c.a, "x", nil); return err },
				audit.ActionRoleDelete:  func() error { return v.DeleteRole(ctx, c.a, "x") },
				audit.ActionTokenCreate: func() error { _, err := v.CreateToken(ctx, c.a, "x", "admin"); return err },
				audit.ActionTokenRevoke: func() error { return v.RevokeToken(ctx, c.a, "x") },
			} {
				wantKind(t, do(), c.want)
				if records, _ := sink.last(); records[0].Action != action || records[0].Outcome != audit.OutcomeDenied || records[0].Secret != "x" {
					t.Errorf("recorded %+v", records)
				}
			}
			_, err := v.Role(ctx, c.a, long)
			wantKind(t, err, c.want)
			if records, _ := sink.last(); records[0].Action != audit.ActionRoleList || records[0].Secret != "" {
				t.Errorf("recorded %+v", records)
			}
			_, _, err = v.Roles(ctx, c.a, "", 1)
			wantKind(t, err, c.want)
			_, _, err = v.Tokens(ctx, c.a, "", 1)
			wantKind(t, err, c.want)
		})
	}
}

// A token that is sent in the place of something else gets no further than the node,
// and into no record.
func TestTokenByMistake(t *testing.T) {
	v, _, sink := newTestVault(t, nil)
	ctx, token := t.Context(), string(NewToken())
	a := &Access{Actor: Actor{Name: "x", Role: "admin", Via: ViaREST}, token: true, admin: true}
	rules := []Permission{{"read", "app/" + token + "/*"}}
	for name, do := range map[string]func() error{
		"a token's role": func() error { _, err := v.CreateToken(ctx, a, "x", token); return err },
		"a long role":    func() error { _, err := v.CreateToken(ctx, a, "x", strings.Repeat("r", 256)); return err },
		"a path":         func() error { _, err := v.CreateRole(ctx, a, Role{Name: "x", Permissions: rules}); return err },
		"a new path":     func() error { _, err := v.SetPermissions(ctx, a, "x", rules); return err },
		"after a role":   func() error { _, _, err := v.Roles(ctx, a, token, 1); return err },
		"after a token":  func() error { _, _, err := v.Tokens(ctx, a, token, 1); return err },
		"after a secret": func() error { _, _, err := v.List(ctx, a, "", token, 1); return err },
		"a prefix":       func() error { _, _, err := v.List(ctx, a, token, "", 1); return err },
	} {
		t.Run(name, func(t *testing.T) {
			wantKind(t, do(), KindInvalid)
			if records, _ := sink.last(); records[0].Outcome != audit.OutcomeFailed || strings.Contains(fmt.Sprint(records), token) {
				t.Errorf("recorded %+v", records)
			}
		})
	}
}

func TestLabels(t *testing.T) {
	for _, name := range []string{"a", "A.b_c@d+e-9", "...", "verify", "permissions", strings.Repeat("n", 255)} {
		if err := checkLabel(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "/", "a b", "a\n", "a\x00", "é", "a*", "%2F", "\u202e", strings.Repeat("n", 256)} {
		wantKind(t, checkLabel(name), KindInvalid)
	}
	for _, name := range []string{"\xff", "a\x00b", strings.Repeat("n", 256)} {
		wantKind(t, checkSent(name), KindMissing)
	}
	if err := checkSent("made by SQL: é/*"); err != nil {
		t.Error(err)
	}
}

func TestPermissions(t *testing.T) {
	good := []Permission{
		{"read", "a"},
		{"verify", "a/b"},
		{"list", "a/*"},
		{"create", "*"},
		{"update", "a*"},
		{"rotate", "a.b_c@d+e-f/*"},
		{"delete", "/*"},
		{"write", strings.Repeat("p", 255) + "*"},
		{"*", "*"},
	}
	if err := checkPermissions(good); err != nil {
		t.Error(err)
	}
	for _, p := range []Permission{
		{"", "a"},
		{"READ", "a"},
		{"admin", "a"},
		{"read,list", "a"},
		{"read", ""},
		{"read", "a b"},
		{"read", "../a"},
		{"read", "a//b"},
		{"read", "a**"},
		{"read", "*a"},
		{"read", "a*b"},
		{"read", "a\x00*"},
		{"read", "é*"},
		{"read", "a/rotate"},
		{"read", strings.Repeat("p", 256) + "*"},
		{"read", "a%2F*"},
	} {
		wantKind(t, checkPermissions([]Permission{p}), KindInvalid)
	}
	wantKind(t, checkPermissions(make([]Permission, MaxPermissions+1)), KindInvalid)
}

// Rules are compared with the name that was sent, byte by byte: nothing is cleaned,
// decoded or folded first.
func TestRulesAndHostileNames(t *testing.T) {
	a := &Access{token: true, rules: []rule{{"read", "pay/*"}, {"read", "Straße"}, {"read", "K"}}}
	for name, want := range map[string]bool{
		"pay/a": true, "pay/": true, "pay/../other": true, // CheckName refuses it
		"pay": false, "PAY/a": false, "Pay/a": false, "pay%2Fa": false, "pay\\a": false, " pay/a": false, "/pay/a": false, "./pay/a": false, "x/../pay/a": false,
		"pay\u2215a": false, "\uff50ay/a": false, "pay\x00/a": false, "pa\u200by/a": false, "*": false, "pay*": false, "other": false, "": false,
		"strasse": false, "STRASSE": false, "\u212a": false, "k": false,
	} {
		if got := a.may(audit.ActionRead, name); got != want {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
		if a.may(audit.ActionRotate, name) {
			t.Errorf("%q: another action", name)
		}
	}
	wantKind(t, CheckName("pay/../other"), KindInvalid)
}

func TestNewToken(t *testing.T) {
	one, two := NewToken(), NewToken()
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(string(one), "hvt_"))
	if err != nil || len(raw) != 32 || !bytes.HasPrefix(one, []byte("hvt_")) || bytes.Equal(one, two) {
		t.Errorf("got %q, %q", one, two)
	}
}
