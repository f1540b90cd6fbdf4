// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"net/netip"
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

var noKind = Kind(-1) // permitted

// The whole policy of REST but for a secret's own allowed_cidrs, which are asked
// where records are opened.
func TestPermit(t *testing.T) {
	everything := []rule{{"read", "*"}, {"verify", "*"}}
	pay := []rule{{"*", "pay/*"}, {"read", "shared"}, {"write", "made/*"}}
	for _, c := range []struct {
		name   string
		mode   ReadAuth
		allow  string
		addr   string
		token  bool
		admin  bool
		rules  []rule
		action audit.Action
		secret string
		want   Kind
	}{
		{"no token, listed", ReadByAddress, "10.0.0.0/8", "10.1.2.3", false, false, everything, "read", "a", noKind},
		{"no token, verify", ReadByAddress, "10.0.0.0/8", "10.1.2.3", false, false, everything, "verify", "a", noKind},
		{"no token, not listed", ReadByAddress, "10.0.0.0/8", "11.1.2.3", false, false, everything, "read", "a", KindDenied},
		{"no token, nobody listed", ReadByAddress, "", "127.0.0.1", false, false, everything, "read", "a", KindDenied},
		{"a mapped address is what it maps", ReadByAddress, "10.0.0.0/8", "::ffff:10.1.2.3", false, false, everything, "read", "a", noKind},
		{"a mapped address is no IPv6", ReadByAddress, "::/0", "::ffff:10.1.2.3", false, false, everything, "read", "a", KindDenied},
		{"no token, narrowed", ReadByAddress, "10.0.0.0/8", "10.1.2.3", false, false, []rule{{"read", "pub/*"}}, "read", "a", KindDenied},
		{"no token, a narrowed role's own", ReadByAddress, "10.0.0.0/8", "10.1.2.3", false, false, []rule{{"read", "pub/*"}}, "read", "pub/a", noKind},
		{"no token writes nothing", ReadByAddress, "10.0.0.0/8", "10.1.2.3", false, false, []rule{{"*", "*"}}, "update", "a", KindUnknown},
		{"no token lists nothing", ReadByAddress, "10.0.0.0/8", "10.1.2.3", false, false, []rule{{"*", "*"}}, "list", "a", KindUnknown},
		{"an admin reads from where it is listed", ReadByAddress, "10.0.0.0/8", "11.1.2.3", true, true, nil, "read", "a", KindDenied},
		{"an admin writes from anywhere", ReadByAddress, "", "11.1.2.3", true, true, nil, "delete", "a", noKind},
		{"a token's role decides where one is sent", ReadByAddress, "10.0.0.0/8", "10.1.2.3", true, false, pay, "read", "a", KindDenied},
		{"a token's role's own", ReadByAddress, "10.0.0.0/8", "10.1.2.3", true, false, pay, "read", "pay/a", noKind},

		{"by token: none", ReadByToken, "10.0.0.0/8", "10.1.2.3", false, false, everything, "read", "a", KindUnknown},
		{"by token: any address", ReadByToken, "", "11.1.2.3", true, false, pay, "read", "pay/a", noKind},
		{"by token: another's", ReadByToken, "10.0.0.0/8", "10.1.2.3", true, false, pay, "read", "a", KindDenied},
		{"by both: no token", ReadByBoth, "10.0.0.0/8", "10.1.2.3", false, false, everything, "read", "a", KindUnknown},
		{"by both: not listed", ReadByBoth, "10.0.0.0/8", "11.1.2.3", true, true, nil, "read", "a", KindDenied},
		{"by both: nobody listed", ReadByBoth, "", "127.0.0.1", true, true, nil, "verify", "a", KindDenied},
		{"by both", ReadByBoth, "10.0.0.0/8", "10.1.2.3", true, false, pay, "verify", "pay/a", noKind},

		{"any action of *", ReadByAddress, "", "11.1.2.3", true, false, pay, "rotate", "pay/a/b", noKind},
		{"write is create", ReadByAddress, "", "11.1.2.3", true, false, pay, "create", "made/a", noKind},
		{"write is update", ReadByAddress, "", "11.1.2.3", true, false, pay, "update", "made/a", noKind},
		{"write is not delete", ReadByAddress, "", "11.1.2.3", true, false, pay, "delete", "made/a", KindDenied},
		{"write is not rotate", ReadByAddress, "", "11.1.2.3", true, false, pay, "rotate", "made/a", KindDenied},
		{"an exact name", ReadByToken, "", "11.1.2.3", true, false, pay, "read", "shared", noKind},
		{"an exact name is no prefix", ReadByToken, "", "11.1.2.3", true, false, pay, "read", "shared/a", KindDenied},
		{"a prefix is not what is before it", ReadByToken, "", "11.1.2.3", true, false, pay, "read", "pay", KindDenied},
		{"a prefix is not part of a name", ReadByToken, "", "11.1.2.3", true, false, pay, "read", "x/pay/a", KindDenied},
		{"case counts", ReadByToken, "", "11.1.2.3", true, false, pay, "read", "PAY/a", KindDenied},
		{"a star within is a star", ReadByToken, "", "11.1.2.3", true, false, []rule{{"read", "a*b"}}, "read", "axb", KindDenied},
		{"no rule", ReadByToken, "", "11.1.2.3", true, false, nil, "read", "a", KindDenied},
		{"an action of nobody", ReadByToken, "", "11.1.2.3", true, false, []rule{{"", "*"}, {"READ", "*"}}, "read", "a", KindDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, _, sink := newTestVault(t, func(k *Config, _ *testKMS) {
				k.RESTAllowedIPs, k.ReadAuth, k.AllowedIPs = mustAllow(t, c.allow), c.mode, mustAllow(t, "0.0.0.0/0, ::/0")
			})
			a := &Access{Actor: Actor{Name: "x", Role: "r", Via: ViaREST, Addr: netip.MustParseAddr(c.addr)}, token: c.token, admin: c.admin, rules: c.rules}
			err := v.Permit(t.Context(), a, c.action, c.secret)
			records, n := sink.last()
			if c.want == noKind {
				if err != nil || n != 0 {
					t.Fatalf("got %v, %d records", err, n)
				}
				return
			}
			wantKind(t, err, c.want)
			if n != 1 || records[0].Outcome != audit.OutcomeDenied || records[0].Secret != c.secret || records[0].Face != ViaREST {
				t.Errorf("recorded %+v", records)
			}
		})
	}
}

// A name is judged before anybody is told who may use it.
func TestPermitNames(t *testing.T) {
	v, _, _ := newTestVault(t, nil)
	a := &Access{Actor: Actor{Name: "x", Via: ViaREST}, token: true, admin: true}
	for _, name := range []string{"..", "a/../b", "a//b", "/a", "a/", "a*", "a\x00b", "é", "a%2Fb", "verify", "a/rotate"} {
		wantKind(t, v.Permit(t.Context(), a, audit.ActionRead, name), KindInvalid)
	}
}

// Misses of REST are the address's, and no role can be made that shares them.
func TestMisser(t *testing.T) {
	a := netip.MustParseAddr
	for _, c := range []struct{ x, y Actor }{
		{Actor{Via: ViaREST, Addr: a("10.0.0.1"), Role: "a"}, Actor{Via: ViaREST, Addr: a("::ffff:10.0.0.1"), Role: "b"}},
		{Actor{Via: ViaREST, Addr: a("2001:db8::1")}, Actor{Via: ViaREST, Addr: a("2001:db8::ffff:1")}},
	} {
		if c.x.misser() != c.y.misser() {
			t.Errorf("%q and %q", c.x.misser(), c.y.misser())
		}
	}
	if (Actor{Via: ViaREST, Addr: a("10.0.0.1")}).misser() == (Actor{Via: ViaREST, Addr: a("10.0.0.2")}).misser() {
		t.Error("two addresses are one")
	}
	if (Actor{Via: ViaSQL, Role: "10.0.0.1"}).misser() == (Actor{Via: ViaREST, Addr: a("10.0.0.1")}).misser() {
		t.Error("a role is an address")
	}
}

func TestChangeChecked(t *testing.T) {
	text := func(s string) []byte { return []byte(s) }
	minus, much := int64(-1), int64(maxSeconds+1)
	for name, c := range map[string]Change{
		"value and pair":  {Value: text("s3cret"), Username: text("u")},
		"empty":           {Value: []byte{}},
		"empty binary":    {Value: []byte{}, Binary: true},
		"too long":        {Value: make([]byte, 512<<10+1), Binary: true},
		"no text":         {Value: text("s3cret\xff")},
		"NUL":             {Password: text("s3cret\x00")},
		"before now":      {GracePeriod: &minus},
		"longer than all": {RotationInterval: &much},
		"no network":      {AllowedCIDRs: &[]string{"10.0.0.1/8"}},
		"mapped":          {AllowedCIDRs: &[]string{"::ffff:10.0.0.0/104"}},
		"no address":      {AllowedCIDRs: &[]string{"s3cret"}},
	} {
		err := c.check("a/b")
		if kind := KindOf(err); err == nil || kind != KindInvalid && kind != KindBinary {
			t.Errorf("%s: got %v", name, err)
		}
	}
	ok := Change{Value: text("v"), AllowedCIDRs: &[]string{"10.0.0.0/8", "fd00::/8"}}
	if err := ok.check("a/b"); err != nil {
		t.Error(err)
	}
}

func TestPair(t *testing.T) {
	for _, c := range [][2]string{{"u", "p"}, {`a"b\`, "<>&\u2028\x01é"}} {
		p := pairOf([]byte(c[0]), []byte(c[1]))
		username, password, ok := SplitPair(p.Bytes())
		if !ok || string(username) != c[0] || string(password) != c[1] {
			t.Errorf("%q: got %q %q %v", c, username, password, ok)
		}
		if string(passwordOf(p.Bytes())) != c[1] {
			t.Errorf("%q: verify finds another password", c)
		}
	}
	for _, text := range []string{"", "{}", `{"username":"u"}`, `{"password":"p"}`, `["u","p"]`} {
		if _, _, ok := SplitPair([]byte(text)); ok {
			t.Errorf("%s is taken for a pair", text)
		}
	}
}
