// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestRoles is what a token's role decides, at either node.
func TestRoles(t *testing.T) {
	both(t, func(t *testing.T, node int, prefix string) {
		pay := token(t, "*", prefix+"pay/*", "read", prefix+"shared")
		writer := token(t, "write", prefix+"*")
		reader := token(t, "read", prefix+"*")
		create := func(status int, token, name string) {
			t.Helper()
			want(t, status, node, token, "POST", "/v1/secrets", fmt.Sprintf(`{"name":%q,"kind":"automatic"}`, prefix+name))
		}
		create(201, pay, "pay/a")
		create(403, pay, "payday")
		create(201, writer, "shared")
		create(403, reader, "other")
		create(401, "", "other")
		create(401, "hvt_none", "other")
		shared.WaitReplayed(t, 1) // others than who wrote them read them
		path := "/v1/secrets/" + prefix
		for _, c := range []struct {
			status              int
			token, method, path string
		}{
			{200, pay, "GET", "pay/a"},
			{200, pay, "GET", "shared"},
			{403, pay, "GET", "none"}, // whether there is one is not told
			{403, pay, "DELETE", "shared"},
			{200, pay, "POST", "pay/a/rotate"},
			{200, pay, "GET", "pay/a/versions"},
			{403, pay, "GET", "shared/versions"},
			{403, pay, "GET", "PAY/a"},
			{403, writer, "GET", "shared"},
			{403, writer, "POST", "shared/rotate"},
			{403, writer, "DELETE", "shared"},
			{200, reader, "GET", "shared"},
			{404, reader, "GET", "none"},
			{401, "hvt_none", "GET", "shared"},
			{401, "", "DELETE", "shared"},
			{401, "", "POST", "shared/rotate"},
			{401, "", "GET", "shared/versions"},
			{204, pay, "DELETE", "pay/a"},
		} {
			a := want(t, c.status, node, c.token, c.method, path+c.path, "")
			if c.status == 401 && !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s %s: no WWW-Authenticate", c.method, c.path)
			}
		}
		want(t, 403, node, reader, "POST", path+"shared/verify", `{"value":"x"}`)
		want(t, 403, node, reader, "PUT", path+"shared", `{"value":"x"}`)
		want(t, 200, node, writer, "PUT", path+"shared", `{"value":"x"}`)
		want(t, 401, node, "", "GET", path+"shared", "", "Authorization", "Basic dTpw")

		withdraw(t, pay, false)
		shared.WaitReplayed(t, 1)
		want(t, 401, node, pay, "GET", path+"shared", "")
	})
}

// TestSQLGrantsDoNotMatter: a role of PostgreSQL without any grant asks by curl, from
// an address that is listed; and narrows the role ip.
func TestSQLGrantsDoNotMatter(t *testing.T) {
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"ip/open","kind":"manual","value":"rest open"}`)
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"ip/shut","kind":"manual","value":"rest shut"}`)
	want(t, 200, 0, "", "GET", "/v1/secrets/ip/shut", "")
	super := shared.Connect(t, shared.SuperDSN(0))
	cluster.Exec(t, super, "INSERT INTO vault.roles (name) VALUES ('ip')")
	cluster.Exec(t, super, "INSERT INTO vault.role_permissions SELECT id, 'read', 'ip/open' FROM vault.roles WHERE name = 'ip'")
	defer func() {
		cluster.Exec(t, super, "DELETE FROM vault.role_permissions WHERE role_id IN (SELECT id FROM vault.roles WHERE name = 'ip')")
		cluster.Exec(t, super, "DELETE FROM vault.roles WHERE name = 'ip'")
		shared.WaitReplayed(t, 1)
	}()
	shared.WaitReplayed(t, 1)
	grantless := shared.AddUser(t, "grantless")
	shared.WaitReplayed(t, 1)
	for node := range shared.Nodes {
		_, err := shared.Connect(t, shared.DSN(node, grantless)).Exec(t.Context(), "SELECT vault.read_secret('ip/open')")
		if pg := (*pgconn.PgError)(nil); !errors.As(err, &pg) || pg.Code != "P0002" {
			t.Errorf("by SQL: got %v, want P0002", err)
		}
		want(t, 401, node, "pw-grantless", "GET", "/v1/secrets/ip/open", "") // its password is no token
		want(t, 401, node, "", "GET", "/v1/secrets/ip/open", "", "Authorization", "Basic Z3JhbnRsZXNzOnB3LWdyYW50bGVzcw==")
		want(t, 200, node, "", "GET", "/v1/secrets/ip/open", "")
		want(t, 403, node, "", "GET", "/v1/secrets/ip/shut", "")
		want(t, 403, node, "", "POST", "/v1/secrets/ip/open/verify", `{"value":"x"}`)
	}
}

// TestCIDRs: a secret's own list counts whatever the role, and for writing not.
func TestCIDRs(t *testing.T) {
	both(t, func(t *testing.T, node int, prefix string) {
		path := "/v1/secrets/" + prefix + "a"
		want(t, 201, node, shared.AdminToken, "POST", "/v1/secrets", fmt.Sprintf(`{"name":"%sa","kind":"manual","value":"x","allowed_cidrs":["10.0.0.0/8"]}`, prefix))
		want(t, 403, node, shared.AdminToken, "GET", path, "")
		want(t, 403, node, shared.AdminToken, "POST", path+"/verify", `{"value":"x"}`)
		if a := want(t, 200, node, shared.AdminToken, "PUT", path, `{"allowed_cidrs":["10.0.0.0/8","127.0.0.0/8"]}`); !strings.Contains(a.text, `["10.0.0.0/8","127.0.0.0/8"]`) {
			t.Errorf("got %s", a.text)
		}
		want(t, 200, node, shared.AdminToken, "GET", path, "")
		want(t, 200, node, shared.AdminToken, "PUT", path, `{"allowed_cidrs":[]}`)
		want(t, 200, node, "", "GET", path, "")
	})
}

// TestMisses: guesses are bounded by address and secret, for valid and for wrong
// ones alike.
func TestMisses(t *testing.T) {
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"misses/a","kind":"manual","value":"right"}`)
	for range 5 {
		if a := want(t, 200, 0, "", "POST", "/v1/secrets/misses/a/verify", `{"value":"wrong"}`); a.fields["valid"] != false {
			t.Errorf("got %s", a.text)
		}
	}
	a := want(t, 429, 0, shared.AdminToken, "POST", "/v1/secrets/misses/a/verify", `{"value":"right"}`)
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	// A name that does not exist is a miss as any other.
	if a := want(t, 200, 0, "", "POST", "/v1/secrets/misses/none/verify", `{"value":"x"}`); a.text != "{\"valid\":false,\"version\":null}\n" {
		t.Errorf("got %s", a.text)
	}
	want(t, 200, 0, "", "GET", "/v1/secrets/misses/a", "")
}

// TestOriginal: the first token as a superuser makes it, and documented calls by
// curl.
func TestOriginal(t *testing.T) {
	cluster.Exec(t, shared.Connect(t, shared.SuperDSN(0)), "INSERT INTO vault.admin_tokens(name, token_sha256) VALUES ('x', sha256('tok'::bytea))")
	node := shared.Nodes[0].REST
	for _, c := range []struct{ args, want string }{
		{`-X POST -H Authorization:@Bearer@tok -H Content-Type:@application/json ` + node + `/v1/secrets -d {"name":"db/password","kind":"manual","value":"s3cr3t","description":"primary@db@password"}`, `"value":"s3cr3t"`},
		{node + `/v1/secrets/db/password`, `"value":"s3cr3t"`},
		{node + `/v1/secrets/db%2Fpassword`, `"value":"s3cr3t"`},
		{`-X PUT -H Authorization:@Bearer@tok -H Content-Type:@application/json ` + node + `/v1/secrets/db/password -d {"value":"n3w-s3cr3t"}`, `"version":2`},
		{`-X POST -H Content-Type:@application/json ` + node + `/v1/secrets/db/password/verify -d {"value":"n3w-s3cr3t"}`, `{"valid":true,"version":2}`},
		{`-H Authorization:@Bearer@tok ` + node + `/v1/secrets`, `"name":"db/password"`},
		{`-X DELETE -w %{http_code} -H Authorization:@Bearer@tok ` + node + `/v1/secrets/db/password`, `204`},

		{`-X POST -H Authorization:@Bearer@tok -H Content-Type:@application/json ` + node + `/v1/secrets -d {"name":"original/key","kind":"automatic","rotation_interval_secs":86400,"grace_period_secs":3600}`, `"version":1,"value":"`},
		{`-X POST -H Authorization:@Bearer@tok ` + node + `/v1/secrets/original/key/rotate`, `"version":2,"value":"`},
		{`-H Authorization:@Bearer@tok ` + node + `/v1/secrets/original/key/versions`, `"stage":"previous"`},
		{`-X POST -H Authorization:@Bearer@tok -H Content-Type:@application/json ` + node + `/v1/secrets -d {"name":"original/app","kind":"manual","username":"app","password":"pw"}`, `"format":"userpass"`},
		{`-X PUT -H Authorization:@Bearer@tok -H Content-Type:@application/json ` + node + `/v1/secrets/original/app -d {"password":"n3w-pw"}`, `"version":2`},
		{node + `/v1/secrets/original/app`, `"username":"app","password":"n3w-pw"`},
		{`-X POST -H Content-Type:@application/json ` + node + `/v1/secrets/original/app/verify -d {"value":"n3w-pw"}`, `{"valid":true,"version":2}`},
		{`-X POST -H Content-Type:@application/json ` + node + `/v1/batch/secrets -d {"names":["original/app","original/none"]}`, `"password":"n3w-pw"`},
		{`-X POST -H Authorization:@Bearer@tok -H Content-Type:@application/json ` + node + `/v1/roles -d {"name":"original","description":"reads","permissions":[{"action":"read","path":"original/*"}]}`, `"action":"read"`},
		{`-X PUT -H Authorization:@Bearer@tok -H Content-Type:@application/json ` + node + `/v1/roles/original/permissions -d {"permissions":[{"action":"write","path":"original/*"}]}`, `"action":"write"`},
		{`-H Authorization:@Bearer@tok ` + node + `/v1/roles/original`, `"action":"write"`},
		{`-H Authorization:@Bearer@tok ` + node + `/v1/roles`, `"name":"original"`},
		{`-X POST -H Authorization:@Bearer@tok -H Content-Type:@application/json ` + node + `/v1/tokens -d {"name":"original-1","role":"original"}`, `"token":"hvt_`},
		{`-H Authorization:@Bearer@tok ` + node + `/v1/tokens`, `"name":"original-1"`},
		{`-X DELETE -w %{http_code} -H Authorization:@Bearer@tok ` + node + `/v1/tokens/original-1`, `204`},
		{`-X DELETE -w %{http_code} -H Authorization:@Bearer@tok ` + node + `/v1/roles/original`, `204`},
	} {
		args := strings.Fields(c.args)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "@", " ")
		}
		out, err := exec.CommandContext(t.Context(), "curl", append([]string{"-sS"}, args...)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("curl %s: %v: %s", c.args, err, out)
		}
	}
}

// TestNobodyListed: without an allowlist nothing is read by either face, whoever asks;
// and VAULT_READ_AUTH=both.
func TestNobodyListed(t *testing.T) {
	node := shared.Nodes[0].StartLoose(t, map[string]string{"VAULT_ALLOWED_IPS": "", "VAULT_READ_AUTH": "both"})
	const path = "/v1/secrets/unlisted/a"
	wantAt(t, 201, node.REST, shared.AdminToken, "POST", "/v1/secrets", `{"name":"unlisted/a","kind":"manual","value":"x"}`)
	wantAt(t, 403, node.REST, shared.AdminToken, "GET", path, "")
	wantAt(t, 403, node.REST, shared.AdminToken, "GET", "/v1/secrets/unlisted/none", "")
	wantAt(t, 403, node.REST, "", "GET", path, "")
	wantAt(t, 403, node.REST, shared.AdminToken, "POST", path+"/verify", `{"value":"x"}`)
	conn := shared.Connect(t, shared.AddressDSN(node.Proxy, shared.User))
	var value string
	if err := conn.QueryRow(t.Context(), "SELECT vault.read_secret('unlisted/a')").Scan(&value); err == nil || !strings.Contains(err.Error(), "42501") {
		t.Errorf("by SQL: %v", err)
	}
}
