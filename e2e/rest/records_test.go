// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestRecords: what a request leaves in the audit, above all one that cannot be read, and
// whose it is said to be.
func TestRecords(t *testing.T) {
	node := shared.Nodes[0].StartLoose(t, fronted)
	reader := token(t, "read", "records/*", "verify", "records/*")
	super := shared.Connect(t, shared.SuperDSN(0))
	role := cluster.Text(t, super, "SELECT role FROM vault.token_role(sha256($1::text::bytea))", reader)
	whose := role + " " + role + " "
	const secret = "/v1/secrets/records/a"
	want := map[string]string{} // by where it came from
	what := map[string]string{}
	for i, c := range []struct {
		what, token, method, path, body string
		headers                         []string
		status                          int
		want                            string // without face, client and database, which all have
	}{
		{"put", shared.AdminToken, "POST", "/v1/secrets", `{"name":"records/a","kind":"manual","value":"x"}`, nil, 201, "init admin create ok records/a v1"},
		{"read", reader, "GET", secret, "", nil, 200, whose + "read ok records/a v1"},
		{"without a token", "", "GET", secret, "", nil, 200, "ip ip read ok records/a v1"},
		{"not listed", reader, "GET", secret, "", nil, 403, whose + "read denied (address) records/a"},
		{"another's", reader, "GET", "/v1/secrets/others/a", "", nil, 403, whose + "read denied (role) others/a"},

		{"no JSON", reader, "POST", secret + "/verify", `{"value":`, nil, 400, whose + "verify failed (invalid) records/a"},
		{"a field that is not known", shared.AdminToken, "PUT", secret, `{"vaule":"x"}`, nil, 400, "init admin update failed (invalid) records/a"},
		{"another type", reader, "POST", secret + "/verify", "value=x", []string{"Content-Type", "text/plain"}, 415, whose + "verify failed (media_type) records/a"},
		{"too large", shared.AdminToken, "PUT", secret, `{"value":"` + strings.Repeat("x", 5<<20) + `"}`, nil, 413, "init admin update failed (too_large) records/a"},
		{"a query that is none", reader, "GET", secret + "?version=x", "", nil, 400, whose + "read failed (invalid) records/a"},
		{"no version", shared.AdminToken, "PUT", secret, `{"value":"x"}`, []string{"If-Match", "x"}, 400, "init admin update failed (invalid) records/a"},
		{"no position", reader, "GET", secret, "", []string{"Vault-Read-After", "x"}, 400, whose + "read failed (invalid) records/a"},
		{"names that are missing", reader, "POST", "/v1/batch/secrets", `{}`, nil, 400, whose + "read failed (invalid)"},
		{"a list of -1", reader, "GET", "/v1/secrets?limit=-1", "", nil, 400, whose + "list failed (invalid)"},
		{"a role without a name", shared.AdminToken, "POST", "/v1/roles", `{}`, nil, 400, "init admin role_create failed (invalid)"},
		{"a value where a name should be", reader, "GET", "/v1/secrets/hunter%202?version=x", "", nil, 400, whose + "read failed (invalid)"},

		{"no token of ours", "", "GET", secret, "", []string{"Authorization", "Basic dTpw"}, 401, "login denied (unknown)"},
		{"a token that nobody has", "hvt_none", "GET", secret, "", nil, 401, "login denied (unknown)"},
	} {
		from := fmt.Sprintf("198.51.100.%d", 100+i) // listed
		if c.what == "not listed" {
			from = "203.0.113.1"
		}
		if a := call(t, node.REST, c.token, c.method, c.path, c.body, append(c.headers, "X-Forwarded-For", from)...); a.status != c.status {
			t.Errorf("%s: got %d %s, want %d", c.what, a.status, a.text, c.status)
		}
		want[from], what[from] = c.want+" rest "+shared.Database, c.what
	}
	// A trusted proxy that does not say whom it speaks for is known by its own address.
	wantAt(t, 403, node.REST, reader, "GET", secret, "")
	want["127.0.0.1"], what["127.0.0.1"] = "login denied (proxy) rest "+shared.Database, "no client"
	wantFrom(t, 200, node.REST, "198.51.100.250", reader, secret)

	// Records come in their order: behind the last one there are all.
	var id string
	cluster.Eventually(t, "the last record", func() bool {
		id = cluster.Text(t, super, "SELECT coalesce(max(node_id::text), '') FROM vault.audit_log WHERE client_ip = '198.51.100.250'")
		return id != ""
	})
	for from, record := range want {
		got := cluster.Text(t, super, `SELECT coalesce(string_agg(concat_ws(' ', actor, session_role, action, outcome, '(' || reason || ')', secret_name, 'v' || version, face, database), '; ' ORDER BY seq), '')
			FROM vault.audit_log WHERE client_ip = $1::inet AND node_id = $2::uuid`, from, id)
		if got != record {
			t.Errorf("%s: recorded %q, want %q", what[from], got, record)
		}
	}
}
