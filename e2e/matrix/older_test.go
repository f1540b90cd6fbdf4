// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e && matrix

package matrix

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// olders is how many versions of the extension before today's a node must work with.
const olders = 3

// older returns the versions before the default one, newest first.
func older(t *testing.T) []string {
	t.Helper()
	rows, err := shared.Connect(t, shared.SuperDSN(0)).Query(t.Context(), `SELECT v.version FROM pg_available_extension_versions v JOIN pg_available_extensions e USING (name)
		WHERE name = 'hyperion_vault' AND v.version <> e.default_version ORDER BY string_to_array(v.version, '.')::int[] DESC`)
	if err != nil {
		t.Fatal(err)
	}
	versions, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(versions) < olders {
		t.Fatalf("versions of the extension: got %v, %v", versions, err)
	}
	return versions
}

// startOld starts two nodes beside an extension of a version, as if it had been
// installed then, with files of today. Its rotations come fast.
func startOld(t *testing.T, version string) *cluster.Cluster {
	t.Helper()
	c := cluster.Start(t, cluster.Spec{
		Standbys: 1, Settings: map[string]string{"hyperion_vault.scan_interval_secs": "1"},
		NodeEnv: map[string]string{"VAULT_ROTATION_POLL_SECS": "1"},
	})
	for _, n := range c.Nodes {
		if err := n.StopNode(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	super := c.Connect(t, c.SuperDSN(0))
	cluster.Exec(t, super, "DROP EXTENSION hyperion_vault CASCADE")
	cluster.Exec(t, super, "CREATE EXTENSION hyperion_vault VERSION '"+version+"'")
	cluster.Exec(t, super, "INSERT INTO vault.meta (vault_id, kms_key_ids, bootstrapped_at) VALUES ($1, '{}', now())", c.VaultID)
	binary, err := cluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	said := cluster.Output(t, c.Libpq(t, c.Nodes[0].Postgres, c.Superuser), binary, "init", "--json", "--database", c.Database)
	var made struct {
		AdminToken string `json:"admin_token"`
	}
	if err := json.Unmarshal([]byte(said), &made); err != nil || made.AdminToken == "" {
		t.Fatalf("init: %v: no token", err)
	}
	c.AdminToken = made.AdminToken
	cluster.Exec(t, super, "SELECT vault.grant_access($1::regrole, '*', '*')", c.User)
	c.WaitReplayed(t, 1)
	for _, n := range c.Nodes {
		if err := n.StartNode(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// works goes through what clients do, at each node. prefix is of the names.
func works(t *testing.T, c *cluster.Cluster, prefix string) {
	t.Helper()
	for i, n := range c.Nodes {
		worksAt(t, c, i, prefix+"/"+n.Name)
	}
}

func worksAt(t *testing.T, c *cluster.Cluster, i int, name string) {
	t.Helper()
	conn := c.Connect(t, c.DSN(i, c.User))
	for _, step := range [][2]string{
		{"SELECT vault.put_secret('" + name + "', 'one')::text", "1"},
		{"SELECT vault.read_secret('" + name + "')", "one"},
		{"SELECT coalesce(vault.update_secret('" + name + "', grace_period => interval '1 hour')::text, '')", ""},
		{"SELECT vault.put_secret('" + name + "', 'two')::text", "2"},
		{"SELECT vault.read_secret('" + name + "')", "two"},
		{"SELECT vault.verify_secret('" + name + "', 'one')::text", "1"},
		{"SELECT vault.create_secret('" + name + "/auto', 'automatic')::text", "1"},
		{"SELECT vault.rotate_secret('" + name + "/auto')::text", "2"},
		{"SELECT count(*)::text FROM vault.list_secrets('" + name + "')", "2"},
		{"SELECT count(*)::text FROM vault.list_versions('" + name + "')", "2"},
		{"SELECT vault.delete_secret('" + name + "/auto')::text", "true"},
	} {
		if got := cluster.Text(t, conn, step[0]); got != step[1] {
			t.Errorf("%s: got %q, want %q", step[0], got, step[1])
		}
	}
}

// rest asks a node's API as the first administrator and returns the status.
func rest(t *testing.T, c *cluster.Cluster, i int, method, path, body string) (int, string) {
	t.Helper()
	return restAs(t, c.AdminToken, method, c.Nodes[i].REST+path, body)
}

// restAs asks an API as the bearer of a token.
func restAs(t *testing.T, token, method, url, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }() // read to its end
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// rotates waits until a node has rotated a secret whose date is past.
func rotates(t *testing.T, c *cluster.Cluster, name string) {
	t.Helper()
	conn, super := c.Connect(t, c.DSN(0, c.User)), c.Connect(t, c.SuperDSN(0))
	cluster.Exec(t, conn, "SELECT vault.create_secret($1, 'automatic', rotation_interval => interval '30 days')", name)
	cluster.Exec(t, super, "UPDATE vault.secrets SET next_rotation_at = now() - interval '1 s' WHERE name = $1", name)
	cluster.Eventually(t, "the rotation of "+name, func() bool {
		return cluster.Text(t, super, "SELECT current_version::text FROM vault.secrets WHERE name = $1", name) == "2"
	})
}

// since says whether a version is at least another.
func since(version, first string) bool {
	number := func(v string) (n int) {
		for part := range strings.SplitSeq(v, ".") {
			one, _ := strconv.Atoi(part) // of our own control file
			n = 1000*n + one
		}
		return n
	}
	return number(version) >= number(first)
}

// TestOlderExtension has today's program and library with the extension's objects
// of before: all that that version had works, and with ALTER EXTENSION the rest
// comes to nodes and sessions that are there.
func TestOlderExtension(t *testing.T) {
	check(t, "today's program with the extension of before, and ALTER EXTENSION under running nodes")
	versions := older(t)[:olders]
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			c := startOld(t, version)
			works(t, c, "older")
			if status, text := rest(t, c, 0, "POST", "/v1/secrets", `{"name": "older/rest", "kind": "manual", "value": "by REST"}`); status != http.StatusCreated {
				t.Errorf("REST, create: got %d: %s", status, text)
			}
			for i := range c.Nodes {
				cluster.Eventually(t, "REST to read", func() bool {
					status, text := rest(t, c, i, "GET", "/v1/secrets/older/rest", "")
					return status == http.StatusOK && strings.Contains(text, "by REST")
				})
			}
			if status, text := rest(t, c, 0, "GET", "/v1/roles", ""); (status == http.StatusOK) != since(version, "1.4") {
				t.Errorf("REST, roles: got %d: %s", status, text)
			}
			if since(version, "1.5") {
				rotates(t, c, "older/before")
			}
			upgrade(t, c)
		})
	}
	seen(t, "%s", strings.Join(slices.SortedFunc(slices.Values(versions), func(x, y string) int { // 1.10 behind 1.9
		return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
	}), ", "))
}

// upgrade runs ALTER EXTENSION while sessions are open, which go on.
func upgrade(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	open := make([]*pgx.Conn, len(c.Nodes))
	for i := range c.Nodes {
		open[i] = c.Connect(t, c.DSN(i, c.User))
		cluster.Exec(t, open[i], "SELECT vault.put_secret($1, $2)", "open/"+c.Nodes[i].Name, "before")
		cluster.Text(t, open[i], "SELECT vault.read_secret($1)", "open/"+c.Nodes[i].Name)
	}
	super := c.Connect(t, c.SuperDSN(0))
	cluster.Exec(t, super, "ALTER EXTENSION hyperion_vault UPDATE")
	c.WaitReplayed(t, 1)
	for i, conn := range open {
		name := "open/" + c.Nodes[i].Name
		cluster.Exec(t, conn, "SELECT vault.put_secret($1, $2)", name, "after")
		if got := cluster.Text(t, conn, "SELECT vault.read_secret($1)", name); got != "after" {
			t.Errorf("%s: got %q", name, got)
		}
	}
	works(t, c, "upgraded")
	rotates(t, c, "upgraded/rotates")
	if status, text := rest(t, c, 0, "GET", "/v1/roles", ""); status != http.StatusOK {
		t.Errorf("REST, roles after the upgrade: got %d: %s", status, text)
	}
}
