// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestPolicy asks both faces of one node each line of testdata/policy.txt: what a
// role of PostgreSQL may do by its grants, a token's role may do by the same rules,
// and from the same addresses.
func TestPolicy(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "policy.txt"))
	if err != nil {
		t.Fatal(err)
	}
	p := newPolicy(t)
	asked := 0
	for i, line := range strings.Split(string(text), "\n") {
		f := strings.Fields(line)
		switch {
		case len(f) == 0 || f[0] == "#" || strings.HasPrefix(line, "#"):
		case f[0] == "role":
			p.role(t, f[1], f[2:])
		case f[0] == "secret":
			p.secrets[f[1]] = f[2:]
		case f[0] == "allowed":
			p.allow(t, strings.TrimPrefix(strings.Join(f[1:], " "), "-"))
		case len(f) == 5:
			p.ask(t, fmt.Sprintf("line %d: %s", i+1, strings.Join(f, " ")), f)
			asked++
		default:
			t.Fatalf("line %d: %q", i+1, line)
		}
	}
	if asked < 100 {
		t.Errorf("%d lines were asked", asked)
	}
}

// policy is a node on all addresses of this host, and who may ask it.
type policy struct {
	node    *cluster.Loose
	super   *pgx.Conn
	tokens  map[string]string
	users   map[string]string
	secrets map[string][]string // what is in the table, and its allowed_cidrs
}

func newPolicy(t *testing.T) *policy {
	t.Helper()
	p := &policy{super: shared.Connect(t, shared.SuperDSN(0)), tokens: map[string]string{"curl": ""}, users: map[string]string{}, secrets: map[string][]string{}}
	hba := filepath.Join(shared.Nodes[0].DataDir, "pg_hba.conf")
	before, err := os.ReadFile(hba)
	if err != nil {
		t.Fatal(err)
	}
	rules := func(text string) {
		if err := os.WriteFile(hba, []byte(text), 0o600); err != nil { // its owner stays
			t.Fatal(err)
		}
		cluster.Exec(t, p.super, "SELECT pg_reload_conf()")
	}
	rules(string(before) + "\nhost all all all scram-sha-256\n")
	t.Cleanup(func() { _ = os.WriteFile(hba, before, 0o600) }) // read again when it matters
	everywhere := func() string {
		_, port, err := net.SplitHostPort(cluster.FreeAddress(t))
		if err != nil {
			t.Fatal(err)
		}
		return "[::]:" + port
	}
	p.node = shared.Nodes[0].StartLoose(t, map[string]string{
		"VAULT_PROXY_LISTEN": everywhere(), "VAULT_API_LISTEN": everywhere(), "VAULT_ALLOW_PLAINTEXT": "true", "VAULT_REQUIRE_TLS": "off",
		"VAULT_AUTH_MAX_FAILURES": "10000", "VAULT_AUTH_WINDOW_SECS": "1",
	})
	return p
}

// role makes a role of either kind. The one named ip stands for who has no token.
func (p *policy) role(t *testing.T, name string, rules []string) {
	t.Helper()
	full := "policy_" + name
	restRole := full
	if name == "ip" {
		restRole = name
	}
	pairs := []string{}
	cluster.Exec(t, p.super, "INSERT INTO vault.roles (name) VALUES ($1)", restRole)
	for _, rule := range rules {
		actions, pattern, _ := strings.Cut(rule, ":")
		pairs = append(pairs, pattern, actions)
		for action := range strings.SplitSeq(actions, ",") {
			cluster.Exec(t, p.super, "INSERT INTO vault.role_permissions SELECT id, $2, $3 FROM vault.roles WHERE name = $1", restRole, action, pattern)
		}
	}
	if name == "ip" {
		t.Cleanup(func() {
			conn, err := pgx.Connect(context.WithoutCancel(t.Context()), shared.SuperDSN(0))
			if err == nil {
				_, err = conn.Exec(context.WithoutCancel(t.Context()), "DELETE FROM vault.role_permissions WHERE role_id IN (SELECT id FROM vault.roles WHERE name = 'ip')")
			}
			if err == nil {
				_, err = conn.Exec(context.WithoutCancel(t.Context()), "DELETE FROM vault.roles WHERE name = 'ip'")
			}
			if err != nil {
				t.Errorf("the role ip stays: %v", err)
			}
		})
		return
	}
	p.users[name] = shared.AddUser(t, full, pairs...)
	p.tokens[name] = "hvt_" + full
	cluster.Exec(t, p.super, "SELECT vault.add_token($1, $1, sha256($2::text::bytea))", full, p.tokens[name])
}

// allow has the node read its settings again.
func (p *policy) allow(t *testing.T, list string) {
	t.Helper()
	text, err := os.ReadFile(p.node.Config)
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.DeleteFunc(strings.Split(string(text), "\n"), func(l string) bool { return strings.HasPrefix(l, "VAULT_ALLOWED_IPS=") })
	p.node.Reread(t, strings.Join(append(lines, "VAULT_ALLOWED_IPS="+list), "\n")+"\n")
}

// ask is one line of the table.
func (p *policy) ask(t *testing.T, what string, f []string) {
	t.Helper()
	who, action, name, address, want := f[0], f[1], f[2], f[3], f[4] == "yes"
	p.arrange(t, action, name)
	if got := p.byREST(t, who, action, name, address); got != want {
		t.Errorf("%s: by REST %t", what, got)
	}
	if who == "curl" {
		return
	}
	p.arrange(t, action, name)
	if got := p.bySQL(t, who, action, name, address); got != want {
		t.Errorf("%s: by SQL %t", what, got)
	}
}

// arrange has a secret be there as the table says, or not there to be created.
func (p *policy) arrange(t *testing.T, action, name string) {
	t.Helper()
	cidrs, listed := p.secrets[name]
	status := call(t, shared.Nodes[0].REST, shared.AdminToken, "GET", "/v1/secrets/"+name+"/versions", "").status
	switch {
	case action == "create" && status == 200:
		want(t, 204, 0, shared.AdminToken, "DELETE", "/v1/secrets/"+name, "")
	case action != "create" && listed && status == 404:
		body, err := json.Marshal(map[string]any{"name": name, "kind": "automatic", "value": "policy canary", "allowed_cidrs": cidrs})
		if err != nil {
			t.Fatal(err)
		}
		want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", string(body))
	}
}

func (p *policy) byREST(t *testing.T, who, action, name, address string) bool {
	t.Helper()
	request := map[string][3]string{
		"read":   {"GET", "/v1/secrets/" + name, ""},
		"verify": {"POST", "/v1/secrets/" + name + "/verify", `{"value":"policy canary"}`},
		"list":   {"GET", "/v1/secrets?prefix=" + name, ""},
		"create": {"POST", "/v1/secrets", `{"name":"` + name + `","kind":"automatic"}`},
		"update": {"PUT", "/v1/secrets/" + name, `{"value":"policy canary"}`},
		"rotate": {"POST", "/v1/secrets/" + name + "/rotate", ""},
		"delete": {"DELETE", "/v1/secrets/" + name, ""},
	}[action]
	a := send(t, clientFrom(address), p.node.REST, p.tokens[who], request[0], request[1], request[2])
	switch {
	case a.status == 401 || a.status == 403:
		if strings.Contains(a.text, "policy canary") {
			t.Errorf("a refusal with a value: %s", a.text)
		}
		return false
	case a.status/100 != 2:
		t.Errorf("%s %s: got %d %s", request[0], request[1], a.status, a.text)
		return false
	}
	return action != "list" || strings.Contains(a.text, `{"name":"`+name+`",`)
}

func (p *policy) bySQL(t *testing.T, who, action, name, address string) bool {
	t.Helper()
	config, err := pgx.ParseConfig(shared.AddressDSN(p.node.Proxy, p.users[who]))
	if err != nil {
		t.Fatal("a DSN that does not parse") // its error would show the password
	}
	config.DialFunc = dialFrom(address)
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer func() { _ = conn.Close(t.Context()) }() // its answer was read
	sql := map[string]string{
		"read":   "SELECT vault.read_secret($1)",
		"verify": "SELECT vault.verify_secret($1, 'policy canary')::text",
		"list":   "SELECT l.name FROM vault.list_secrets($1) l WHERE l.name = $1",
		"create": "SELECT vault.create_secret($1, 'automatic')::text",
		"update": "SELECT vault.put_secret($1, 'policy canary')::text",
		"rotate": "SELECT vault.rotate_secret($1, 'policy canary')::text",
		"delete": "SELECT vault.delete_secret($1)::text",
	}[action]
	var got *string
	err = conn.QueryRow(t.Context(), sql, name).Scan(&got)
	var e *pgconn.PgError
	switch {
	case err == nil:
		return got != nil || action == "verify"
	case errors.Is(err, pgx.ErrNoRows):
		return false
	case errors.As(err, &e) && slices.Contains([]string{"42501", "P0002"}, e.Code):
		return false
	}
	t.Errorf("%s %s: %v", sql, name, err)
	return false
}

// TestOthersPages: what a browser sends for another site's page is refused whoever
// it comes from; of names only those that the operator gave are this node's (DNS
// rebinding).
func TestOthersPages(t *testing.T) {
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"pages/a","kind":"manual","value":"pages canary"}`)
	self := strings.TrimPrefix(shared.Nodes[0].REST, "http://")
	for _, c := range []struct {
		what    string
		headers []string
		status  int
	}{
		{"curl", nil, 200},
		{"by name", []string{"Host", "localhost"}, 200},
		{"a page of its own", []string{"Host", self, "Origin", "http://" + self}, 200},
		{"a name pointed at this node", []string{"Host", "evil.example"}, 403},
		{"and its page", []string{"Host", "evil.example", "Origin", "http://evil.example"}, 403},
		{"a name that begins as an address", []string{"Host", "127.0.0.1.evil.example"}, 403},
		{"no name", []string{"Host", "."}, 403},
		{"another site's page", []string{"Host", self, "Origin", "http://evil.example"}, 403},
		{"a page of no site", []string{"Host", self, "Origin", "null"}, 403},
		{"another port's page", []string{"Host", self, "Origin", "http://127.0.0.1:1"}, 403},
		{"a browser that says so", []string{"Host", self, "Sec-Fetch-Site", "cross-site"}, 403},
		{"a neighbour", []string{"Host", self, "Sec-Fetch-Site", "same-site"}, 403},
	} {
		for _, token := range []string{"", shared.AdminToken} {
			for _, request := range [][3]string{
				{"GET", "/v1/secrets/pages/a", ""}, {"POST", "/v1/batch/secrets", `{"names":["pages/a"]}`}, {"POST", "/v1/secrets/pages/a/verify", `{"value":"pages canary"}`},
			} {
				a := call(t, shared.Nodes[0].REST, token, request[0], request[1], request[2], c.headers...)
				if a.status != c.status || c.status != 200 && strings.Contains(a.text, "canary") {
					t.Errorf("%s: %s %s: got %d %s, want %d", c.what, request[0], request[1], a.status, a.text, c.status)
				}
			}
		}
	}
}
