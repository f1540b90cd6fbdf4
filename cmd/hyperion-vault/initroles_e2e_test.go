// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
)

// withoutExtension copies the server's programs and files to where they find one
// another, but nothing of the extension, and has the next cluster run them.
func withoutExtension(t *testing.T) {
	t.Helper()
	root, err := os.MkdirTemp("", "hyperion-vault-bare-") //nolint:usetesting // that is nobody's but ours, and servers do not run as root
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	bindir, err := devcluster.FindServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	config := func(what string) string {
		out, err := exec.CommandContext(t.Context(), filepath.Join(bindir, "pg_config"), what).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	for _, program := range []string{"initdb", "postgres", "pg_ctl", "pg_basebackup", "psql"} {
		putFile(t, filepath.Join(bindir, program), filepath.Join(root, bindir, program), true)
	}
	share := config("--sharedir")
	for _, dir := range []string{config("--pkglibdir"), share, filepath.Join(share, "extension")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), "hyperion_vault") && e.Name() != "extension" {
				putFile(t, filepath.Join(dir, e.Name()), filepath.Join(root, dir, e.Name()), false)
			}
		}
	}
	names := filepath.Join(root, "names")
	if err := os.MkdirAll(names, 0o755); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\necho '%s'\n", filepath.Join(root, bindir))
	if err := os.WriteFile(filepath.Join(names, "pg_config"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", names+":"+os.Getenv("PATH"))
}

// putFile copies a file, or links to it: a program looks for the rest from where it is.
func putFile(t *testing.T, from, to string, whole bool) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if !whole {
		if err := os.Symlink(from, to); err != nil {
			t.Fatal(err)
		}
		return
	}
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close() // it was read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestInitRefuses: where one host lacks the extension and another is away, the table has
// all of them, and nothing is changed anywhere.
func TestInitRefuses(t *testing.T) {
	c, env := serversOnly(t, devcluster.Config{Binary: os.Args[0]})
	withoutExtension(t)
	bare, _ := serversOnly(t, devcluster.Config{SuperuserPassword: c.SuperuserPassword})
	version := ask(t, bare.Nodes[0].Postgres, c.Superuser, c.SuperuserPassword, "postgres", "SELECT split_part(current_setting('server_version'), ' ', 1)")
	major, _, _ := strings.Cut(version, ".")
	hosts := []string{c.Nodes[0].Postgres, bare.Nodes[0].Postgres, "127.0.0.1:1"}
	code, out, errOut := finish(t, env, "init", "--database", "postgres", "--hosts", strings.Join(hosts, ","))
	if code != exitFault || out != "" {
		t.Errorf("got %d, %q", code, out)
	}
	for _, line := range []string{
		`HOST +POSTGRESQL +EXTENSION FILES +WHAT TO DO`,
		regexp.QuoteMeta(hosts[0]+" ") + " *" + regexp.QuoteMeta(version) + ` +1\.\d+ +nothing`,
		regexp.QuoteMeta(hosts[1]+" ") + " *" + regexp.QuoteMeta(version) + ` +- +install postgresql-` + major + `-hyperion-vault on this host .*`,
		regexp.QuoteMeta(hosts[2]+" ") + ` *- +- +it cannot be asked: connection refused; start it, or name another host or port \(--hosts\)`,
	} {
		if !regexp.MustCompile(`(?m)^hyperion-vault: ` + line + `$`).MatchString(errOut) {
			t.Errorf("no line %s in\n%s", line, errOut)
		}
	}
	if got := ask(t, hosts[0], c.Superuser, c.SuperuserPassword, "postgres", "SELECT count(*)::text FROM pg_extension WHERE extname = 'hyperion_vault'"); got != "0" {
		t.Error("something was changed")
	}
}

// dumpRoles are roles of each kind, by what makes them.
var dumpRoles = map[string]string{
	"d_reads_all":        "CREATE ROLE d_reads_all LOGIN; GRANT pg_read_all_data TO d_reads_all",
	"d_reads_all_bypass": "CREATE ROLE d_reads_all_bypass LOGIN BYPASSRLS; GRANT pg_read_all_data TO d_reads_all_bypass",
	"d_bypass":           "CREATE ROLE d_bypass LOGIN BYPASSRLS; GRANT SELECT ON d.t, d.s, d.own TO d_bypass",
	"d_owner":            "CREATE ROLE d_owner LOGIN; ALTER TABLE d.t OWNER TO d_owner; ALTER SEQUENCE d.s OWNER TO d_owner; ALTER TABLE d.own OWNER TO d_owner",
	"d_selects":          "CREATE ROLE d_selects LOGIN; GRANT SELECT ON d.t, d.s TO d_selects",
	"d_nothing":          "CREATE ROLE d_nothing LOGIN",
	"d_noinherit":        "CREATE ROLE d_noinherit LOGIN NOINHERIT; GRANT pg_read_all_data TO d_noinherit",
	"d_vault":            "CREATE ROLE d_vault LOGIN; GRANT pg_read_all_data TO d_vault; GRANT SELECT ON ALL TABLES IN SCHEMA vault TO d_vault",
	"d_super":            "CREATE ROLE d_super LOGIN SUPERUSER",
}

// TestInitDumpers compares who init says cannot dump any more with what pg_dump does, for
// the database and for what of it is not the vault's.
func TestInitDumpers(t *testing.T) {
	c, env := serversOnly(t, devcluster.Config{Binary: os.Args[0]})
	super := func(sql string) { t.Helper(); execute(t, c, sql) }
	emptyDatabase(t, c, env)
	// By its own row security a table is closed to some who may read it otherwise.
	super("CREATE SCHEMA d; GRANT USAGE ON SCHEMA d TO PUBLIC; CREATE TABLE d.t (i int); CREATE SEQUENCE d.s; CREATE TABLE d.own (i int); GRANT SELECT ON d.own TO PUBLIC")
	for _, sql := range dumpRoles {
		super(sql)
	}
	dump := func(role string, args ...string) error {
		cmd := exec.CommandContext(t.Context(), "pg_dump", args...)
		cmd.Env = append(env[:2:2], "PATH="+os.Getenv("PATH"), "PGDATABASE="+c.Database, "PGUSER="+role, "PGPASSWORD=x")
		return cmd.Run()
	}
	// who can, of all, at one time.
	who := func(args ...string) map[string]bool {
		can := map[string]bool{}
		var mu sync.Mutex
		var all sync.WaitGroup
		for role := range dumpRoles {
			all.Go(func() {
				ok := dump(role, args...) == nil
				mu.Lock()
				defer mu.Unlock()
				can[role] = ok
			})
		}
		all.Wait()
		return can
	}
	judge := func() map[string]string {
		t.Helper()
		code, out, errOut := finish(t, env, "init", "--database", c.Database, "--json")
		var r initResult
		if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil || r.DumpFails == nil {
			t.Fatalf("got %d, %v: %s%s", code, err, out, errOut)
		}
		listed := map[string]string{}
		for _, w := range r.DumpFails.Roles {
			listed[w.Role] = w.Remedy
		}
		could, can, others := who("--exclude-schema=vault"), who(), len(listed)
		for role := range dumpRoles {
			_, got := listed[role]
			if want := could[role] && !can[role]; got != want {
				t.Errorf("%s: listed %v; it could dump %v, and can %v", role, got, could[role], can[role])
			}
			if got {
				others--
			}
		}
		if others > 0 {
			t.Errorf("listed as well: %v", listed)
		}
		return listed
	}
	for role := range dumpRoles {
		super("ALTER ROLE " + role + " PASSWORD 'x'")
	}
	remedies := judge()
	super("ALTER TABLE d.own ENABLE ROW LEVEL SECURITY")
	judge()
	super("ALTER TABLE d.own FORCE ROW LEVEL SECURITY")
	judge()

	super("ALTER TABLE d.own DISABLE ROW LEVEL SECURITY")
	for _, remedy := range remedies {
		super(remedy)
	}
	can := who()
	for role, remedy := range remedies {
		if !can[role] {
			t.Errorf("%s: %q does not help", role, remedy)
		}
	}
}

// emptyDatabase: before it has a table, who owns it cannot dump it any more. What helps says
// what it costs, unless it costs nothing.
func emptyDatabase(t *testing.T, c *devcluster.Cluster, env []string) {
	t.Helper()
	const cost = "with BYPASSRLS a role cannot log in through a node"
	for logins, costs := range map[string]bool{"users": true, "all": false} {
		execute(t, c, "ALTER SYSTEM SET hyperion_vault.proxy_login = '"+logins+"'")
		execute(t, c, "SELECT pg_reload_conf()")
		eventually(t, "its owner is listed, and what it costs", func() bool {
			code, out, errOut := finish(t, env, "init", "--database", c.Database, "--json")
			var r initResult
			if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil {
				t.Fatalf("got %d, %v: %s", code, err, errOut)
			}
			l := r.DumpFails
			return l != nil && l.Count == 1 && l.Roles[0].Role == c.User && strings.Contains(l.Note, cost) == costs
		})
	}
	cmd := exec.CommandContext(t.Context(), "pg_dump")
	cmd.Env = append(env[:2:2], "PATH="+os.Getenv("PATH"), "PGDATABASE="+c.Database, "PGUSER="+c.User, "PGPASSWORD="+c.Password)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "permission denied") {
		t.Errorf("it can: %v, %s", err, out)
	}
}

// TestInitLogins: who cannot log in through a node, why, and what helps.
func TestInitLogins(t *testing.T) {
	c, env := serversOnly(t, devcluster.Config{Binary: os.Args[0], ServerSettings: map[string]string{"hyperion_vault.proxy_login": "users"}})
	super := func(sql string) string {
		t.Helper()
		return ask(t, c.Nodes[0].Postgres, c.Superuser, c.SuperuserPassword, c.Database, sql)
	}
	for _, sql := range []string{
		"CREATE ROLE l_none LOGIN", "CREATE ROLE l_group PASSWORD 'x'", "CREATE ROLE l_fine LOGIN PASSWORD 'x' VALID UNTIL 'infinity'",
		"SET password_encryption = md5; CREATE ROLE l_md5 LOGIN PASSWORD 'x'; RESET password_encryption", "CREATE ROLE l_late LOGIN PASSWORD 'x' VALID UNTIL '2001-01-01'",
		"CREATE ROLE l_repl LOGIN REPLICATION PASSWORD 'x'", "CREATE ROLE l_bypass LOGIN BYPASSRLS PASSWORD 'x'", "CREATE ROLE \"l \x1b[2J\" LOGIN",
	} {
		execute(t, c, sql)
	}
	listed := func() string {
		t.Helper()
		code, out, errOut := finish(t, env, "init", "--database", c.Database, "--json")
		var r initResult
		if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil || r.CannotLogIn == nil || strings.Contains(out, "SCRAM-SHA-256$") {
			t.Fatalf("got %d, %v: %s%s", code, err, out, errOut)
		}
		var words []string
		for _, w := range r.CannotLogIn.Roles {
			verifier := super(fmt.Sprintf("SELECT coalesce(vault.login_verifier('%s'), '')", w.Role))
			if strings.HasPrefix(w.Role, "l_") && verifier != "" {
				t.Errorf("%s has a verifier", w.Role)
			}
			if strings.HasPrefix(w.Role, "l_") || w.Role == c.Superuser {
				words = append(words, w.Role+": "+w.Why)
			}
		}
		return strings.Join(words, "; ")
	}
	const strong = ": superuser, REPLICATION or BYPASSRLS"
	const weak = "l_late: its password has expired; l_md5: its password is stored as md5; l_none: it has no password; "
	if got, want := listed(), "l_bypass"+strong+"; "+weak+"l_repl"+strong+"; "+c.Superuser+strong; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	code, out, errOut := finish(t, env, "init", "--database", c.Database)
	for _, line := range []string{
		`note: \d+ roles cannot log in through a node \(.*\):`,
		`  l \\x1b\[2J +it has no password +SET password_encryption = 'scram-sha-256'; \\password "l \\x1b\[2J"`,
		`  l_late +its password has expired +ALTER ROLE l_late VALID UNTIL 'infinity'`,
	} {
		if code != 0 || !regexp.MustCompile(`(?m)^`+line+`$`).MatchString(out) {
			t.Errorf("no line %s in\n%s%s", line, out, errOut)
		}
	}
	// Thousands are a number.
	for _, sql := range []string{
		"DO $$ BEGIN FOR i IN 1..2000 LOOP EXECUTE 'CREATE ROLE a_many' || i || ' LOGIN'; END LOOP; END $$",
		"ALTER SYSTEM SET hyperion_vault.proxy_login = 'all'", "SELECT pg_reload_conf()",
	} {
		execute(t, c, sql)
	}
	eventually(t, "the bound", func() bool {
		_, out, _ := finish(t, env, "init", "--database", c.Database)
		return strings.Count(out, "\n  a_many") == maxListedRoles && strings.Contains(out, fmt.Sprintf("  … and %d more\n", 2000+4-maxListedRoles))
	})
}
