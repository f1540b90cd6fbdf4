// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package vault

import (
	"net/netip"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

var (
	listed   = netip.MustParseAddr("10.1.2.3")
	unlisted = netip.MustParseAddr("192.0.2.1")
)

// aheadWorld is a node beside a server of today, with secrets app/a (two versions) and
// other/b, and tokens: boss may do everything, reader reads app/*, writer writes *.
func aheadWorld(t *testing.T) (*devcluster.Cluster, *Vault, *recorder) {
	t.Helper()
	c := startServers(t, 0)
	run(t, c, "CREATE ROLE vault_service LOGIN PASSWORD "+quoteLiteral(servicePassword), "CREATE EXTENSION hyperion_vault")
	fillAhead(t, c)
	sink := &recorder{}
	v, _ := nodeOf(t, c, c.Nodes[0], func(config *Config) {
		config.RESTAllowedIPs, config.Audit = mustAllow(t, "10.0.0.0/8"), sink
	})
	st, err := v.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v.health.Store(&Health{Status: st})
	boss, err := v.Authenticate(t.Context(), "boss", listed, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"app/a", "other/b"} {
		s, err := v.Create(t.Context(), boss, name, false, Change{Value: []byte("one")})
		if err != nil {
			t.Fatal(err)
		}
		s.Value.Zero()
	}
	grace := int64(3600)
	if _, err := v.Update(t.Context(), boss, "app/a", 0, Change{Value: []byte("two"), GracePeriod: &grace}); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Read(t.Context(), boss, "app/a", 0); err != nil { // the server shows it, and boss has seen that
		t.Fatal(err)
	}
	return c, v, sink
}

// fillAhead is what a new vault needs.
func fillAhead(t *testing.T, c *devcluster.Cluster) {
	t.Helper()
	run(t, c, "SELECT vault.grant_service_role('vault_service')",
		"INSERT INTO vault.meta (vault_id, kms_key_ids, bootstrapped_at) VALUES ('"+testVaultID+"', '{}', pg_catalog.now())",
		"INSERT INTO vault.roles (name) VALUES ('reader'), ('writer')",
		"INSERT INTO vault.role_permissions SELECT id, 'read', 'app/*' FROM vault.roles WHERE name = 'reader'",
		"INSERT INTO vault.role_permissions SELECT id, a, '*' FROM vault.roles, unnest(ARRAY['write', 'verify', 'list']) a WHERE name = 'writer'",
		"SELECT vault.add_token('the boss', 'admin', sha256('boss')), vault.add_token('a reader', 'reader', sha256('reader')), vault.add_token('a writer', 'writer', sha256('writer'))")
}

// TestReadAhead: the record comes along with who asks only for whom it is, and with
// or without it a request is answered and recorded alike.
func TestReadAhead(t *testing.T) {
	c, v, sink := aheadWorld(t)
	for _, x := range []struct {
		what, token string
		addr        netip.Addr
		way         ReadAuth
		want        Wanted
		comes       bool
		value       string
		kind        Kind // if no value is read
	}{
		{"an admin", "boss", listed, ReadByBoth, Wanted{"app/a", 0}, true, "two", 0},
		{"an older version", "boss", listed, ReadByBoth, Wanted{"app/a", 1}, true, "one", 0},
		{"a version that is not there", "boss", listed, ReadByBoth, Wanted{"app/a", 3}, false, "", KindMissing},
		{"a secret that is not there", "boss", listed, ReadByBoth, Wanted{"app/none", 0}, false, "", KindMissing},
		{"a rule", "reader", listed, ReadByBoth, Wanted{"app/a", 0}, true, "two", 0},
		{"a rule, and nothing there", "reader", listed, ReadByBoth, Wanted{"app/none", 0}, false, "", KindMissing},
		{"no rule", "reader", listed, ReadByBoth, Wanted{"other/b", 0}, false, "", KindDenied},
		{"no rule, and nothing there", "reader", listed, ReadByBoth, Wanted{"other/none", 0}, false, "", KindDenied},
		{"rules of other actions", "writer", listed, ReadByBoth, Wanted{"app/a", 0}, false, "", KindDenied},
		{"no name", "boss", listed, ReadByBoth, Wanted{"../a", 0}, false, "", KindInvalid},
		{"another address", "boss", unlisted, ReadByBoth, Wanted{"app/a", 0}, false, "", KindDenied},
		{"another address, which is not asked for", "boss", unlisted, ReadByToken, Wanted{"app/a", 0}, true, "two", 0},
		{"no token", "", listed, ReadByAddress, Wanted{"other/b", 0}, true, "one", 0},
		{"no token, another address", "", unlisted, ReadByAddress, Wanted{"other/b", 0}, false, "", KindDenied},
		{"no token where one is asked for", "", listed, ReadByBoth, Wanted{"other/b", 0}, false, "", KindUnknown},
	} {
		v.SetReadAuth(x.way)
		var answers [2]error
		var recorded [2]audit.Record
		for i, want := range []*Wanted{&x.want, nil} {
			a, err := v.Authenticate(t.Context(), x.token, x.addr, want)
			if err != nil {
				t.Fatalf("%s: %v", x.what, err)
			}
			if came := a.ahead != nil; came != (x.comes && want != nil) {
				t.Errorf("%s: a record came along: %v", x.what, came)
			}
			s, err := v.Read(t.Context(), a, x.want.Name, x.want.Version)
			if got := string(s.Value.Bytes()); got != x.value {
				t.Errorf("%s: got %q, want %q", x.what, got, x.value)
			}
			s.Value.Zero()
			if answers[i] = err; x.value == "" {
				wantKind(t, err, x.kind)
			}
			if records, _ := sink.last(); x.kind != KindInvalid {
				recorded[i] = records[0]
				recorded[i].At = time.Time{}
			}
		}
		if one, two := answers[0], answers[1]; (one == nil) != (two == nil) || one != nil && one.Error() != two.Error() {
			t.Errorf("%s: with a record that may come %v, without %v", x.what, one, two)
		}
		if recorded[0] != recorded[1] {
			t.Errorf("%s: recorded %+v and %+v", x.what, recorded[0], recorded[1])
		}
	}
	v.SetReadAuth(ReadByBoth)
	t.Run("strangers", func(t *testing.T) { testAheadStrangers(t, c, v) })
	t.Run("policy", func(t *testing.T) { testAheadPolicy(t, v, sink) })
	t.Run("used", func(t *testing.T) { testAheadUsed(t, v) })
	t.Run("again", func(t *testing.T) { testAheadAgain(t, c, v) })
}

// Who bears no token that lives is told nothing, whatever he asks for; a token that is
// revoked is one of those at once.
func testAheadStrangers(t *testing.T, c *devcluster.Cluster, v *Vault) {
	t.Helper()
	run(t, c, "SELECT vault.add_token('short lived', 'admin', sha256('short'))")
	ask := func(token, name string) (*Access, error) {
		return v.Authenticate(t.Context(), token, listed, &Wanted{Name: name})
	}
	if a, err := ask("short", "app/a"); err != nil || a.ahead == nil {
		t.Fatalf("while it lives: %v", err)
	}
	run(t, c, "UPDATE vault.admin_tokens SET revoked_at = now() WHERE name = 'short lived'")
	_, first := ask("nobody's", "app/a")
	wantKind(t, first, KindUnknown)
	for _, token := range []string{"nobody's", "short"} {
		for _, name := range []string{"app/a", "app/none", "../a"} {
			if a, err := ask(token, name); a != nil || err == nil || err.Error() != first.Error() {
				t.Errorf("%s for %s: got %v, %v, want %v", token, name, a, err, first)
			}
		}
	}
}

// What the server sends along is opened only by the node's own policy.
func testAheadPolicy(t *testing.T, v *Vault, sink *recorder) {
	t.Helper()
	a, err := v.Authenticate(t.Context(), "boss", listed, &Wanted{Name: "app/a"})
	if err != nil || a.ahead == nil {
		t.Fatalf("%+v, %v", a, err)
	}
	a.admin = false // as if the server sent records to everybody
	_, err = v.Read(t.Context(), a, "app/a", 0)
	wantKind(t, err, KindDenied)
	if records, _ := sink.last(); len(records) != 1 || records[0].Outcome != audit.OutcomeDenied {
		t.Errorf("recorded %+v", records)
	}
	a.admin = true
	v.SetAllowedIPs(mustAllow(t, ""), mustAllow(t, "")) // meanwhile
	_, err = v.Read(t.Context(), a, "app/a", 0)
	wantKind(t, err, KindDenied)
	v.SetAllowedIPs(mustAllow(t, ""), mustAllow(t, "10.0.0.0/8"))

	a.ahead.of.Name = "other/b" // as if the server sent another secret's
	_, err = v.Read(t.Context(), a, "other/b", 0)
	wantKind(t, err, KindTampered)
}

// What came along is used for what was wanted alone, and not where something newer is
// to be seen.
func testAheadUsed(t *testing.T, v *Vault) {
	t.Helper()
	come := func(token string) *Access {
		t.Helper()
		a, err := v.Authenticate(t.Context(), token, listed, &Wanted{Name: "app/a"})
		if err != nil || a.ahead == nil {
			t.Fatalf("%+v, %v", a, err)
		}
		return a
	}
	used := func(a *Access, want Wanted) bool { return v.cameAlong(a, want) != nil }
	p := Position{1, 1}
	a := come("boss")
	if !used(a, Wanted{"app/a", 0}) || used(a, Wanted{"app/a", 1}) || used(a, Wanted{"app/b", 0}) {
		t.Error("it is not what was wanted that counts")
	}
	if s, err := v.Read(t.Context(), a, "other/b", 0); err != nil || string(s.Value.Bytes()) != "one" {
		t.Errorf("another secret: %v", err)
	}
	a.ReadAfter(p)
	if used(a, Wanted{"app/a", 0}) {
		t.Error("it is used for who is to see a write")
	}
	a = come("boss")
	v.seen.note("the boss", p) // a write that came between
	if used(a, Wanted{"app/a", 0}) {
		t.Error("it is used though its token has written")
	}
	if other := come("reader"); !used(other, Wanted{"app/a", 0}) {
		t.Error("another token's writes count")
	}
	v.seen.forget("the boss", p) // another read has seen that it is shown by now, not then
	if used(a, Wanted{"app/a", 0}) {
		t.Error("it is used though it may be from before a write")
	}
	if a = come("boss"); !used(a, Wanted{"app/a", 0}) {
		t.Error("from then on it is not used")
	}
	v.health.Store(&Health{Status: Status{ExtensionVersion: "1.7"}})
	if a, err := v.Authenticate(t.Context(), "boss", listed, &Wanted{Name: "app/a"}); err != nil || a.ahead != nil {
		t.Errorf("an older extension: %v", err)
	}
	v.health.Store(&Health{Status: Status{ExtensionVersion: "1.8"}})
}

// The extension is dropped, and made again: what is prepared must not stand in the way.
func testAheadAgain(t *testing.T, c *devcluster.Cluster, v *Vault) {
	t.Helper()
	ask := func() error {
		_, err := v.Authenticate(t.Context(), "boss", listed, &Wanted{Name: "app/a"})
		return err
	}
	run(t, c, "DROP EXTENSION hyperion_vault CASCADE")
	for range 2 {
		wantKind(t, ask(), KindServer)
	}
	run(t, c, "CREATE EXTENSION hyperion_vault")
	fillAhead(t, c)
	if err := ask(); err != nil {
		t.Error(err)
	}
	run(t, c, "REVOKE EXECUTE ON FUNCTION vault.token_read(bytea, text, int) FROM vault_service")
	wantKind(t, ask(), KindServer)
}
