// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

const bootstrapToken = "a-bootstrap-token-of-the-tests"

// TestBootstrapToken: it becomes an administrator's at every node, once: while there
// never was a token, however late a primary comes, whichever nodes have it.
func TestBootstrapToken(t *testing.T) {
	t.Parallel() // it mostly waits
	c := cluster.Start(t, cluster.Spec{Standbys: 1, Settings: cluster.LogAll(), NodeEnv: map[string]string{"VAULT_BOOTSTRAP_TOKEN": bootstrapToken, "VAULT_AUTH_LOCKOUT_SECS": "0"}})
	wants := func(status, node int, token string) {
		t.Helper()
		wantAt(t, status, c.Nodes[node].REST, token, "GET", "/v1/tokens", "")
	}
	restart := func() {
		t.Helper()
		if err := errors.Join(c.Nodes[0].StopNode(t.Context()), c.Nodes[0].StartNode(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	says := func(path, text string, times int) {
		t.Helper()
		cluster.Eventually(t, text, func() bool {
			log, err := os.ReadFile(path)
			return err == nil && strings.Count(string(log), text) == times
		})
	}
	first := c.Nodes[0].Log
	// init has made a token.
	for node := range c.Nodes {
		says(c.Nodes[node].Log, "VAULT_BOOTSTRAP_TOKEN has no effect", 1)
		wants(401, node, bootstrapToken)
		wants(200, node, c.AdminToken)
	}
	// As if there never was one; and the primary is away while the nodes start.
	cluster.Exec(t, c.Connect(t, c.SuperDSN(0)), "DELETE FROM vault.admin_tokens")
	c.WaitReplayed(t, 1)
	if err := c.Nodes[0].StopServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := c.Nodes[1].StartUnready(t, nil).Log
	says(late, "VAULT_BOOTSTRAP_TOKEN is not registered yet", 1)
	if err := c.Nodes[0].StartServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	says(late, "the token of VAULT_BOOTSTRAP_TOKEN is an administrator's", 1)
	c.WaitReplayed(t, 1)
	restart() // which finds it there
	says(first, "the token of VAULT_BOOTSTRAP_TOKEN is an administrator's", 1)
	for node := range c.Nodes {
		wants(200, node, bootstrapToken)
	}
	super := c.Connect(t, c.SuperDSN(0))
	if got := cluster.Text(t, super, "SELECT string_agg(name || coalesce(role_id::text, ' admin'), ',') FROM vault.admin_tokens"); got != "bootstrap admin" {
		t.Errorf("the tokens are %s", got)
	}
	// Revoked is revoked, whatever starts with it.
	wantAt(t, 204, c.Nodes[0].REST, bootstrapToken, "DELETE", "/v1/tokens/bootstrap", "")
	restart()
	says(first, "VAULT_BOOTSTRAP_TOKEN has no effect", 2)
	wants(401, 0, bootstrapToken)
	c.NeverSent(t, bootstrapToken)
	for _, n := range c.Nodes {
		if log, err := os.ReadFile(n.Log); err != nil || strings.Contains(string(log), bootstrapToken) {
			t.Errorf("the log of %s: %v, or it has the token", n.Name, err)
		}
	}
}

// otherVault makes a vault in a database of its own, and returns a superuser's
// connection there. version is the extension's; empty: the newest.
func otherVault(t *testing.T, database, version string) *pgx.Conn {
	t.Helper()
	cluster.Exec(t, shared.Connect(t, shared.SuperDSN(0)), "CREATE DATABASE "+database)
	conn := shared.Connect(t, shared.SuperDSN(0), func(c *pgx.ConnConfig) { c.Database = database })
	create := "CREATE EXTENSION hyperion_vault"
	if version != "" {
		create += " VERSION '" + version + "'"
	}
	service := shared.Nodes[0].Settings(t)["VAULT_PG_USER"]
	for _, sql := range []string{create, "INSERT INTO vault.meta (vault_id) VALUES (gen_random_uuid())", "SELECT vault.grant_service_role('" + service + "')"} {
		cluster.Exec(t, conn, sql)
	}
	return conn
}

// TestBootstrapAtOnce: of nodes with different tokens that start together one makes
// its own the first.
func TestBootstrapAtOnce(t *testing.T) {
	super := otherVault(t, "together", "")
	const nodes = 6
	var logs []string
	for i := range nodes {
		logs = append(logs, shared.Nodes[0].StartUnready(t, map[string]string{"VAULT_PG_DBNAME": "together", "VAULT_BOOTSTRAP_TOKEN": fmt.Sprintf("%s-%d", bootstrapToken, i)}).Log)
	}
	first, late := 0, 0
	for _, path := range logs {
		cluster.Eventually(t, "the node's word", func() bool {
			log, err := os.ReadFile(path)
			switch {
			case err != nil:
			case strings.Contains(string(log), "is an administrator's"):
				first++
				return true
			case strings.Contains(string(log), "has no effect"):
				late++
				return true
			}
			return false
		})
	}
	if n := cluster.Text(t, super, "SELECT count(*)::text FROM vault.admin_tokens"); first != 1 || late != nodes-1 || n != "1" {
		t.Errorf("%d made theirs the first, %d came late, there are %s tokens", first, late, n)
	}
}

// TestOlderExtension: with 1.3 the node does what it did, and says what it cannot;
// after the upgrade it does all.
func TestOlderExtension(t *testing.T) {
	old := otherVault(t, "old", "1.3")
	cluster.Exec(t, old, "SELECT vault.add_token('x', NULL, sha256('old-token'::bytea))")
	node := shared.Nodes[0].StartLoose(t, map[string]string{"VAULT_PG_DBNAME": "old", "VAULT_AUTH_MAX_FAILURES": "2", "VAULT_BOOTSTRAP_TOKEN": bootstrapToken, "VAULT_AUTH_LOCKOUT_SECS": "900"})
	wantAt(t, 201, node.REST, "old-token", "POST", "/v1/secrets", `{"name":"a","kind":"manual","value":"x"}`)
	wantAt(t, 200, node.REST, "old-token", "GET", "/v1/secrets/a", "")
	wantAt(t, 503, node.REST, "old-token", "GET", "/v1/roles", "")
	wantAt(t, 503, node.REST, "old-token", "POST", "/v1/roles", `{"name":"r","permissions":[]}`)
	if a := wantAt(t, 503, node.REST, "old-token", "POST", "/v1/tokens", `{"name":"t","role":"admin"}`); !strings.Contains(a.text, "ALTER EXTENSION hyperion_vault UPDATE") {
		t.Errorf("got %s", a.text)
	}
	wantAt(t, 401, node.REST, "hvt_none", "GET", "/v1/secrets", "")
	wantAt(t, 401, node.REST, "hvt_none", "GET", "/v1/secrets", "")
	wantAt(t, 429, node.REST, "hvt_none", "GET", "/v1/secrets", "")
	wantAt(t, 200, node.REST, "old-token", "GET", "/v1/secrets", "")
	cluster.Exec(t, old, "ALTER EXTENSION hyperion_vault UPDATE")
	wantAt(t, 201, node.REST, "old-token", "POST", "/v1/roles", `{"name":"r","permissions":[]}`)
	wantAt(t, 200, node.REST, "old-token", "GET", "/v1/roles/r", "")
}

// TestReload: what SIGHUP changes of REST.
func TestReload(t *testing.T) {
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"reload/a","kind":"manual","value":"x"}`)
	node := shared.Nodes[0].StartLoose(t, map[string]string{"VAULT_ALLOWED_IPS": "127.0.0.1, 198.51.100.0/24", "VAULT_AUTH_MAX_FAILURES": "2"})
	const path = "/v1/secrets/reload/a"
	ask := func(status int, token string, headers ...string) answer {
		t.Helper()
		return wantAt(t, status, node.REST, token, "GET", path, "", headers...)
	}
	byName := func(code string) {
		t.Helper()
		if a := ask(403, "", "Host", "vault.example"); a.field("code") != code {
			t.Errorf("by name: got %s, want %s", a.text, code)
		}
	}
	ask(200, "")
	ask(200, "", "X-Forwarded-For", "192.0.2.1")
	byName("host")
	for range 3 {
		ask(401, "hvt_none") // the shared nodes' settings lock nobody
	}
	text, err := os.ReadFile(node.Config)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.ReplaceAll(string(text), "VAULT_AUTH_LOCKOUT_SECS=0", "VAULT_AUTH_LOCKOUT_SECS=60") + "VAULT_READ_AUTH=both\nVAULT_API_HOSTS=vault.example\nVAULT_TRUST_PROXY=127.0.0.1\n"
	node.Reread(t, changed)
	const header, address = "X-Forwarded-For", "198.51.100.30"
	ask(401, "", header, address)
	ask(200, shared.AdminToken, header, address)
	ask(403, shared.AdminToken, header, "192.0.2.1")
	ask(403, shared.AdminToken)
	ask(401, "hvt_none", header, address)
	ask(401, "hvt_none", header, address)
	ask(429, "hvt_none", header, address)
	byName("denied") // no longer for its name, but as a proxy that does not say for whom it asks
	if text, err := os.ReadFile(node.Log); err != nil || strings.Contains(string(text), "need a restart") {
		t.Errorf("%v, or the log names a setting that needs a restart:\n%s", err, text)
	}
}
