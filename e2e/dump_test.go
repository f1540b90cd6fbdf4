// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// vaultTables are queries of what must be the same after a restore; a role's OID
// and the clock of the last tick are not.
var vaultTables = []string{
	"SELECT vault_id, kms_key_ids FROM vault.meta",
	"SELECT * FROM vault.secrets WHERE name LIKE 'dump/%'",
	"SELECT v.* FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id WHERE s.name LIKE 'dump/%'",
	"SELECT role_name, pattern, actions, granted_at, granted_by FROM vault.grants WHERE pattern LIKE 'dump/%'",
	"SELECT j.* FROM vault.rotation_jobs j JOIN vault.secrets s ON s.id = j.secret_id WHERE s.name LIKE 'dump/%'",
	"SELECT * FROM vault.roles",
	"SELECT * FROM vault.role_permissions",
	"SELECT * FROM vault.admin_tokens",
}

func contents(t *testing.T, conn *pgx.Conn, query string) string {
	t.Helper()
	return cluster.Text(t, conn, "SELECT coalesce(string_agg(r::text, E'\n' ORDER BY r::text), '') FROM ("+query+") AS r")
}

// dueTomorrow queues a rotation that no node does meanwhile.
const dueTomorrow = `DO $$ BEGIN
	UPDATE vault.secrets SET next_rotation_at = now() - interval '1 hour' WHERE name = 'dump/auto';
	PERFORM vault.enqueue_due_rotations();
	UPDATE vault.rotation_jobs SET retry_at = now() + interval '1 day' WHERE completed_at IS NULL;
END $$`

// furnish makes one of everything that a dump must carry.
func furnish(t *testing.T, c *cluster.Cluster) (reader string) {
	t.Helper()
	reader = c.AddUser(t, "dump_reader", "dump/read/*", "read,verify")
	owner, super := c.Connect(t, c.DSN(0, c.User)), c.Connect(t, c.SuperDSN(0))
	for _, sql := range []string{
		"SELECT vault.put_secret('dump/read/a', 'first-a', 'what it is for')",
		"SELECT vault.update_secret('dump/read/a', grace_period => interval '1 day')",
		"SELECT vault.put_secret('dump/read/a', 'second-a')",
		"SELECT vault.put_secret('dump/hidden', 'hidden-b')",
		"SELECT vault.put_secret('dump/read/deleted', 'deleted-c')",
		"SELECT vault.delete_secret('dump/read/deleted')",
		"SELECT vault.create_secret('dump/auto', 'automatic', rotation_interval => interval '30 days')",
		"CREATE VIEW dump_view AS SELECT vault.read_secret('dump/read/a') AS pw",
		"CREATE FUNCTION dump_reads() RETURNS vault.sealed LANGUAGE sql STABLE RETURN vault.read_secret('dump/read/a')",
		"GRANT SELECT ON dump_view TO " + reader,
	} {
		cluster.Exec(t, owner, sql)
	}
	for _, sql := range []string{
		"INSERT INTO vault.roles (name, description) VALUES ('dump-role', 'reads')",
		"INSERT INTO vault.role_permissions SELECT id, 'read', 'dump/*' FROM vault.roles WHERE name = 'dump-role'",
		"INSERT INTO vault.admin_tokens (name, role_id, token_sha256) SELECT 'dump-token', id, sha256('dump') FROM vault.roles WHERE name = 'dump-role'",
		dueTomorrow,
	} {
		cluster.Exec(t, super, sql)
	}
	for _, query := range vaultTables {
		if contents(t, super, query) == "" {
			t.Fatalf("nothing to dump: %s", query)
		}
	}
	return reader
}

// TestDumpAndRestore dumps the whole cluster and the whole database through the node,
// restores them into an empty cluster, the database as a script and by eight jobs, and
// reads the secrets there.
func TestDumpAndRestore(t *testing.T) {
	c := shared
	reader := furnish(t, c)
	out := t.TempDir()
	node := c.Libpq(t, c.Nodes[0].Proxy, c.Superuser)
	plain, custom, all := filepath.Join(out, "plain.sql"), filepath.Join(out, "custom"), filepath.Join(out, "all.sql")
	mustRun(t, node, "pg_dumpall", "--file", all)
	mustRun(t, node, "pg_dump", "--file", plain)
	mustRun(t, node, "pg_dump", "--format", "custom", "--file", custom)

	empty := cluster.Start(t, cluster.Spec{Plain: true, Settings: map[string]string{"shared_preload_libraries": "hyperion_vault"}})
	// psql connects anew for each database, by then with the password that was dumped.
	super := empty.Connect(t, empty.SuperDSN(0))
	cluster.Exec(t, super, cluster.Text(t, super, "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)", empty.Superuser, c.SuperuserPassword))
	server := c.Libpq(t, empty.Nodes[0].Postgres, c.Superuser)
	// Some roles and databases exist in any cluster: it goes on behind its complaint.
	_, complaints, err := program(t, server, "psql", "--no-psqlrc", "--quiet", "--file", all)
	if err != nil || !onlyExisting(complaints) {
		t.Fatalf("all: %v: %s", err, complaints)
	}
	t.Run("all", func(t *testing.T) { inspect(t, c, empty, c.Database, reader) })
	restored := map[string]func(database string){
		"plain": func(database string) {
			mustRun(t, server, "psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", database, "--file", plain)
		},
		"jobs": func(database string) {
			mustRun(t, server, "pg_restore", "--exit-on-error", "--jobs", "8", "--dbname", database, custom)
		},
	}
	for how, restore := range restored {
		t.Run(how, func(t *testing.T) {
			database := "restored_" + how
			mustRun(t, server, "psql", "--no-psqlrc", "--quiet", "--dbname", "postgres", "--command", "CREATE DATABASE "+database+" OWNER "+c.User+" TEMPLATE template0")
			restore(database)
			inspect(t, c, empty, database, reader)
		})
	}
}

// onlyExisting says whether every complaint is about what exists already.
func onlyExisting(complaints string) bool {
	for line := range strings.Lines(complaints) {
		if strings.Contains(line, "ERROR") && !strings.Contains(line, "already exists") {
			return false
		}
	}
	return true
}

// inspect sees that a restored database has all that was dumped and that a node
// with the same master key serves it.
func inspect(t *testing.T, c, empty *cluster.Cluster, database, reader string) {
	t.Helper()
	dsn := func(address, user string) string {
		return c.AddressDSN(address, user) + " dbname=" + database // the last one counts
	}
	before, after := c.Connect(t, c.SuperDSN(0)), c.Connect(t, dsn(empty.Nodes[0].Postgres, c.Superuser))
	for _, query := range vaultTables {
		if got, want := contents(t, after, query), contents(t, before, query); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", query, got, want)
		}
	}
	if got := cluster.Text(t, after, "SELECT current_setting('shared_preload_libraries')"); got != "hyperion_vault" {
		t.Fatalf("shared_preload_libraries: got %q", got)
	}
	cluster.Exec(t, after, "SELECT vault.adopt_grants()")
	if got := cluster.Text(t, after, "SELECT count(*)::text FROM vault.grants g LEFT JOIN pg_authid a ON a.oid = g.role_oid AND a.rolname = g.role_name WHERE a.oid IS NULL"); got != "0" {
		t.Errorf("grants that no role has: got %s, want 0", got)
	}

	loose := c.Nodes[0].StartLoose(t, map[string]string{
		"VAULT_LOCAL_PG": empty.Nodes[0].Postgres, "VAULT_PG_HOSTS": empty.Nodes[0].Postgres, "VAULT_PG_DBNAME": database,
	})
	conn := c.Connect(t, dsn(loose.Proxy, reader))
	for query, want := range map[string]string{
		"SELECT vault.read_secret('dump/read/a')":                                "second-a",
		"SELECT vault.read_secret('dump/read/a', 1)":                             "first-a",
		"SELECT vault.verify_secret('dump/read/a', 'first-a')::text":             "1",
		"SELECT pw FROM dump_view":                                               "second-a",
		"SELECT dump_reads()":                                                    "second-a",
		"SELECT vault.allowed('read', 'dump/hidden')::text":                      "false",
		"SELECT vault.allowed('verify', 'dump/read/a')::text":                    "true",
		"SELECT coalesce(vault.verify_secret('dump/read/a', 'x')::text, 'none')": "none",
	} {
		if got := cluster.Text(t, conn, query); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	for _, name := range []string{"dump/hidden", "dump/read/deleted", "dump/nothing"} {
		var e *pgconn.PgError
		if _, err := conn.Exec(t.Context(), "SELECT vault.read_secret($1)", name); !errors.As(err, &e) || e.Code != "P0002" {
			t.Errorf("%s: got %v, want P0002", name, err)
		}
	}
	owner := c.Connect(t, dsn(loose.Proxy, c.User))
	for query, want := range map[string]string{
		"SELECT vault.read_secret('dump/hidden')":                     "hidden-b",
		"SELECT vault.put_secret('dump/read/a', 'third-a')::text":     "3",
		"SELECT vault.put_secret('dump/read/deleted', 'new-c')::text": "2",
		"SELECT vault.rotate_secret('dump/auto')::text":               "2",
		"SELECT vault.put_secret('dump/new', 'new-d')::text":          "1",
	} {
		if got := cluster.Text(t, owner, query); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	// The sequence goes on where it was: a new job has a new number.
	cluster.Exec(t, after, "DELETE FROM vault.rotation_jobs")
	cluster.Exec(t, after, "INSERT INTO vault.rotation_jobs (secret_id) SELECT id FROM vault.secrets WHERE name = 'dump/auto'")
	if got, want := cluster.Text(t, after, "SELECT max(id)::text FROM vault.rotation_jobs"), cluster.Text(t, before, "SELECT (max(id) + 1)::text FROM vault.rotation_jobs"); got != want {
		t.Errorf("number of the next job: got %s, want %s", got, want)
	}
}

// TestDumpByOthers dumps as roles that are no superuser: complete, or not at all.
func TestDumpByOthers(t *testing.T) {
	c := shared
	super := c.Connect(t, c.SuperDSN(0))
	put(t, "dump/others", "s3cr3t-others")
	const marker = "COPY vault.secret_versions"
	for _, role := range []struct {
		name, options string
		works         bool
	}{
		{"dump_bypass", "BYPASSRLS", true},
		{"dump_reads_all", "NOBYPASSRLS", false},
	} {
		user := c.AddUser(t, role.name)
		cluster.Exec(t, super, "ALTER ROLE "+user+" "+role.options)
		cluster.Exec(t, super, "GRANT pg_read_all_data TO "+user)
		for _, i := range []string{c.DSN(0, user), c.DirectDSN(0, user)} {
			dump, complaint, err := program(t, nil, "pg_dump", "--dbname", i)
			switch {
			case role.works && err != nil:
				t.Errorf("%s: %v: %s", role.name, err, complaint)
			case role.works && !strings.Contains(dump, marker):
				t.Errorf("%s: the dump has no secrets", role.name)
			case !role.works && (err == nil || !strings.Contains(complaint, "row-level security")):
				t.Errorf("%s: got %v (%s), want an error that names row-level security", role.name, err, complaint)
			}
		}
	}
}
