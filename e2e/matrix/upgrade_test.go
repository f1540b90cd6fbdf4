// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e && matrix

package matrix

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// notApplicable is said of what a major cannot have.
const notApplicable = "n/a"

// majors are those that a cluster may come from.
var majors = []int{15, 17}

// TestPgUpgrade takes a vault from each older major to this one by pg_upgrade: all
// that was in it opens, and goes on.
func TestPgUpgrade(t *testing.T) {
	now := major(t)
	for _, from := range majors {
		t.Run(strconv.Itoa(from), func(t *testing.T) {
			check(t, fmt.Sprintf("pg_upgrade from %d: secrets, roles, grants, tokens, jobs and audit rows", from))
			if from >= now {
				seen(t, notApplicable)
			} else {
				pgUpgrade(t, fmt.Sprintf("/usr/lib/postgresql/%d/bin", from))
			}
		})
	}
}

func pgUpgrade(t *testing.T, oldBin string) {
	t.Helper()
	newBin := cluster.Bin(t, "")
	// Not below a directory that servers' user cannot enter.
	dir := filepath.Join("/var/tmp", "hyperion-vault-upgrade-"+strconv.Itoa(os.Getpid()))
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	old := start(t, dir, oldBin)
	token := fill(t, old)
	data := old.Nodes[0].DataDir
	// What a node has still to ship comes before its end.
	if err := old.Nodes[0].StopNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, oids, cleared := tables(t, old, old.Database), types(t, old), clearOptions(t, old)
	dump := filepath.Join(dir, "dump")
	cluster.Output(t, libpq(old), filepath.Join(newBin, "pg_dump"), "--format=custom", "--file", dump, old.Database)
	if err := old.Stop(); err != nil {
		t.Fatal(err)
	}
	run := as(t, filepath.Dir(data))
	// Since 18 initdb makes checksums unless told not to; older data has none.
	next := data + ".new"
	password := filepath.Join(filepath.Dir(data), "password")
	write(t, password, old.SuperuserPassword)
	options := []string{
		"--pgdata", next, "--username", "postgres", "--pwfile", password, "--auth", "scram-sha-256",
		"--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--no-instructions",
	}
	if major(t) >= 18 {
		options = append(options, "--no-data-checksums")
	}
	run(filepath.Join(newBin, "initdb"), options...)
	for _, d := range []string{data, next} {
		write(t, filepath.Join(d, "pg_hba.conf"), "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n")
		write(t, filepath.Join(d, "devcluster.conf"), "shared_preload_libraries = 'hyperion_vault'\nhyperion_vault.database = 'app'\n")
	}
	appendTo(t, filepath.Join(next, "postgresql.conf"), "\ninclude = 'devcluster.conf'\n")
	run(filepath.Join(newBin, "pg_upgrade"), "--old-bindir", oldBin, "--new-bindir", newBin, "--old-datadir", data, "--new-datadir", next,
		"--username", "postgres", "--link", "--socketdir", "/tmp")
	if err := os.Rename(data, data+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, data); err != nil {
		t.Fatal(err)
	}
	now := start(t, dir, newBin)
	defer func() { _ = now.Stop() }() // what it did was looked at
	has(t, tables(t, now, now.Database), before)
	if got := types(t, now); got != oids {
		t.Errorf("types: got\n%s\nwant\n%s", got, oids)
	}
	conn := connect(t, now.Nodes[0].Proxy, now.User, now.Password, now.Database)
	for _, step := range [][2]string{
		{"SELECT vault.read_secret('upgrade/a')", "second"},
		{"SELECT vault.read_secret('upgrade/a', 1)", "first"},
		{"SELECT pw FROM upgrade_view", "second"},
		{"SELECT upgrade_reads()", "second"},
		{"SELECT vault.verify_secret('upgrade/a', 'first')::text", "1"},
		{"SELECT vault.put_secret('upgrade/a', 'third')::text", "3"},
		{"SELECT vault.read_secret('upgrade/a')", "third"},
		{"SELECT vault.rotate_secret('upgrade/auto')::text", "2"},
	} {
		if got := cluster.Text(t, conn, step[0]); got != step[1] {
			t.Errorf("%s: got %q, want %q", step[0], got, step[1])
		}
	}
	if _, err := conn.Exec(t.Context(), "CREATE TABLE kept AS SELECT vault.read_secret('upgrade/a')"); err == nil {
		t.Error("a sealed value was stored: the event trigger is gone")
	}
	reader := connect(t, now.Nodes[0].Proxy, "upgrade_reader", "of-the-reader", now.Database)
	if got := cluster.Text(t, reader, "SELECT vault.read_secret('upgrade/a')"); got != "third" {
		t.Errorf("a role with a grant: got %q", got)
	}
	if _, err := reader.Exec(t.Context(), "SELECT vault.put_secret('upgrade/a', 'fourth')"); err == nil {
		t.Error("a role without that grant puts")
	}
	for path, want := range map[string]int{"/v1/secrets/upgrade/a": http.StatusOK, "/v1/secrets/other": http.StatusForbidden, "/v1/roles": http.StatusForbidden} {
		if status, text := restAs(t, token, "GET", now.Nodes[0].REST+path, ""); status != want {
			t.Errorf("REST, %s: got %d, want %d: %s", path, status, want, text)
		}
	}
	audited(t, now)
	restored(t, now, newBin, dump, before)
	seen(t, "%s%s", strings.Fields(cluster.Output(t, nil, filepath.Join(oldBin, "postgres"), "--version"))[2], cleared)
}

// clearOptions takes away what some builds note at each column, which other
// majors refuse: with it neither pg_upgrade nor a restored dump gets past the first
// table, whoever's it is.
func clearOptions(t *testing.T, c *devcluster.Cluster) (said string) {
	t.Helper()
	for _, database := range []string{c.Database, "postgres", "template1"} {
		super := connect(t, c.Nodes[0].Postgres, c.Superuser, c.SuperuserPassword, database)
		tag, err := super.Exec(t.Context(), "UPDATE pg_attribute SET attoptions = NULL WHERE attoptions::text LIKE '{pg_attver=%}'")
		if err != nil {
			t.Fatal(err)
		}
		if tag.RowsAffected() > 0 {
			said = ", after `attoptions` was cleared"
		}
		_ = super.Close(t.Context()) // or the server waits for it
	}
	return said
}

// start starts a kept cluster with the programs of bindir.
func start(t *testing.T, dir, bindir string) *devcluster.Cluster {
	t.Helper()
	t.Setenv("PATH", bindir+":"+os.Getenv("PATH"))
	binary, err := cluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	c, err := devcluster.Start(t.Context(), devcluster.Config{Binary: binary, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func connect(t *testing.T, address, user, password, database string) *pgx.Conn {
	t.Helper()
	host, port, _ := strings.Cut(address, ":")
	return shared.Connect(t, "host="+host+" port="+port+" user="+user+" password="+password+" dbname="+database+" sslmode=disable")
}

// audited has the program verify the audit of before and after, once the node has
// shipped all of it.
func audited(t *testing.T, c *devcluster.Cluster) {
	t.Helper()
	if err := c.Nodes[0].StopNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	binary, err := cluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	lines, _ := cluster.Trust(t, c.Nodes[0].NodeLog())
	trust := filepath.Join(t.TempDir(), "trust")
	if err := os.WriteFile(trust, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	cluster.Output(t, libpq(c), binary, "audit", "verify", "--trust", trust, "--grace", "0s")
}

// fill makes one of everything that an upgrade must bring along, and returns a token
// that may read some of it.
func fill(t *testing.T, c *devcluster.Cluster) (token string) {
	t.Helper()
	super := connect(t, c.Nodes[0].Proxy, c.Superuser, c.SuperuserPassword, c.Database)
	cluster.Exec(t, super, "CREATE ROLE upgrade_reader LOGIN PASSWORD 'of-the-reader'")
	cluster.Exec(t, super, "SELECT vault.grant_access('upgrade_reader', 'upgrade/*')")
	conn := connect(t, c.Nodes[0].Proxy, c.User, c.Password, c.Database)
	for _, sql := range []string{
		"SELECT vault.put_secret('upgrade/a', 'first')",
		"SELECT vault.update_secret('upgrade/a', grace_period => interval '1 day')",
		"SELECT vault.put_secret('upgrade/a', 'second')",
		"SELECT vault.create_secret('upgrade/auto', 'automatic', rotation_interval => interval '30 days')",
		"CREATE VIEW upgrade_view AS SELECT vault.read_secret('upgrade/a') AS pw",
		"CREATE FUNCTION upgrade_reads() RETURNS vault.sealed LANGUAGE sql STABLE RETURN vault.read_secret('upgrade/a')",
		"CREATE DOMAIN upgrade_domain AS vault.sealed",
	} {
		cluster.Exec(t, conn, sql)
	}
	cluster.Exec(t, super, "INSERT INTO vault.rotation_jobs (secret_id, completed_at) SELECT id, now() FROM vault.secrets WHERE name = 'upgrade/auto'")
	rest := c.Nodes[0].REST
	if status, text := restAs(t, c.AdminToken, "POST", rest+"/v1/roles", `{"name": "upgrade", "permissions": [{"action": "read", "path": "upgrade/*"}]}`); status != http.StatusCreated {
		t.Fatalf("REST, a role: got %d: %s", status, text)
	}
	status, text := restAs(t, c.AdminToken, "POST", rest+"/v1/tokens", `{"name": "upgrade", "role": "upgrade"}`)
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(text), &made); err != nil || status != http.StatusCreated {
		t.Fatalf("REST, a token: got %d: %v", status, err)
	}
	return made.Token
}

// libpq is the environment that connects the superuser to the server itself.
func libpq(c *devcluster.Cluster) []string {
	host, port, _ := strings.Cut(c.Nodes[0].Postgres, ":")
	return []string{"PGHOST=" + host, "PGPORT=" + port, "PGUSER=" + c.Superuser, "PGPASSWORD=" + c.SuperuserPassword, "PGDATABASE=" + c.Database, "PGSSLMODE=disable"}
}

// restored restores a dump of the old server into a database of the new one.
func restored(t *testing.T, c *devcluster.Cluster, bindir, dump, want string) {
	t.Helper()
	super := connect(t, c.Nodes[0].Postgres, c.Superuser, c.SuperuserPassword, c.Database)
	cluster.Exec(t, super, "CREATE DATABASE restored TEMPLATE template0")
	cluster.Output(t, libpq(c), filepath.Join(bindir, "pg_restore"), "--exit-on-error", "--jobs=2", "--dbname=restored", dump)
	has(t, tables(t, c, "restored"), want)
}

// has looks for each row of before. A node that has started has records of its own too.
func has(t *testing.T, after, before string) {
	t.Helper()
	rows := strings.Split(after, "\n")
	for row := range strings.SplitSeq(before, "\n") {
		if !slices.Contains(rows, row) {
			t.Errorf("the vault's tables: gone or changed: %s", row)
		}
	}
}

// tables is all that the vault has stored.
func tables(t *testing.T, c *devcluster.Cluster, database string) string {
	t.Helper()
	super := connect(t, c.Nodes[0].Postgres, c.Superuser, c.SuperuserPassword, database)
	var all []string
	for _, query := range []string{
		"SELECT vault_id, kms_key_ids FROM vault.meta", "TABLE vault.secrets", "TABLE vault.secret_versions", "TABLE vault.grants",
		"TABLE vault.roles", "TABLE vault.role_permissions", "SELECT id, name, role_id, token_sha256, created_at, revoked_at FROM vault.admin_tokens",
		"TABLE vault.rotation_jobs", "TABLE vault.audit_log", "TABLE vault.audit_anchors", "TABLE vault.changes",
		"SELECT extversion FROM pg_extension WHERE extname = 'hyperion_vault'",
	} {
		rows := cluster.Text(t, super, "SELECT coalesce(string_agg(r::text, E'\n' ORDER BY r::text), '') FROM ("+query+") r")
		if rows == "" && !strings.Contains(query, "audit_anchors") {
			t.Errorf("nothing to bring along: %s", query)
		}
		all = append(all, rows)
	}
	return strings.Join(all, "\n")
}

// types are the numbers that must not change, or values could not be read.
func types(t *testing.T, c *devcluster.Cluster) string {
	t.Helper()
	super := connect(t, c.Nodes[0].Postgres, c.Superuser, c.SuperuserPassword, c.Database)
	return cluster.Text(t, super, "SELECT string_agg(oid || ' ' || typname, E'\n' ORDER BY oid) FROM pg_type WHERE typname IN ('sealed', '_sealed', 'upgrade_domain')")
}

// as returns what runs a program that must work, in a directory, as the user that
// servers run as.
func as(t *testing.T, dir string) func(program string, args ...string) {
	t.Helper()
	var credential *syscall.Credential
	if os.Geteuid() == 0 {
		found, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			t.Fatal(err)
		}
		credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			t.Fatal(err)
		}
	}
	return func(program string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Dir, cmd.Env = dir, []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "HOME=" + dir}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
		if out, err := cmd.CombinedOutput(); err != nil {
			logs, _ := filepath.Glob(filepath.Join(dir, "*", "pg_upgrade_output.d", "*", "log", "*")) // perhaps none
			for _, log := range logs {
				text, _ := os.ReadFile(log) // what there is
				out = append(out, text[max(0, len(text)-2000):]...)
			}
			t.Fatalf("%s: %v\n%s", filepath.Base(program), err, out)
		}
	}
}

// write replaces what a file of the servers' user says.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(before)+text)
}
