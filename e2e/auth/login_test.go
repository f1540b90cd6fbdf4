// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package auth

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// login connects with the given identity and returns the refusal, nil if it got
// in and could work.
func login(t *testing.T, user, password, database string) *pgconn.PgError {
	t.Helper()
	config, err := pgx.ParseConfig(shared.DSN(0, shared.User))
	if err != nil {
		t.Fatal(err)
	}
	config.User, config.Password, config.Database = user, password, database
	conn, err := pgx.ConnectConfig(t.Context(), config)
	var pe *pgconn.PgError
	switch {
	case errors.As(err, &pe):
		return pe
	case err != nil:
		t.Fatalf("neither in nor refused: %v", err)
	}
	defer conn.Close(t.Context())
	if got := cluster.Text(t, conn, "select session_user::text"); got != user {
		t.Errorf("logged in as %q, not %q", got, user)
	}
	return nil
}

func TestLogin(t *testing.T) {
	admin := shared.Connect(t, shared.SuperDSN(0))
	long := strings.Repeat("pw", 500)
	for _, sql := range []string{
		"create role a_plain login password 'right'",
		"create role a_long login password '" + long + "'",
		"create role a_utf8 login password 'pässwörd'",
		"create role a_expired login password 'right' valid until '2001-01-01'",
		"create role a_nologin password 'right'",
		"create role a_nopassword login",
		"set password_encryption = 'md5'; create role a_md5 login password 'right'; reset password_encryption",
		"create role a_full login password 'right' connection limit 0",
		"create database a_closed",
		"revoke connect on database a_closed from public",
	} {
		cluster.Exec(t, admin, sql)
	}
	for name, c := range map[string]struct{ user, password, database, state string }{
		"right":              {user: "a_plain", password: "right"},
		"1,000 bytes":        {user: "a_long", password: long},
		"not ASCII":          {user: "a_utf8", password: "pässwörd"},
		"wrong":              {user: "a_plain", password: "wrong", state: "28P01"},
		"empty":              {user: "a_plain", password: "", state: "28P01"},
		"unknown role":       {user: "a_nobody", password: "right", state: "28P01"},
		"expired":            {user: "a_expired", password: "right", state: "28P01"},
		"NOLOGIN":            {user: "a_nologin", password: "right", state: "28P01"},
		"no password":        {user: "a_nopassword", password: "right", state: "28P01"},
		"md5":                {user: "a_md5", password: "right", state: "28P01"},
		"connection limit":   {user: "a_full", password: "right", state: "53300"},
		"no such database":   {user: "a_plain", password: "right", database: "a_nowhere", state: "3D000"},
		"CONNECT revoked":    {user: "a_plain", password: "right", database: "a_closed", state: "42501"},
		"superuser (by dev)": {user: shared.Superuser, password: shared.SuperuserPassword},
	} {
		t.Run(name, func(t *testing.T) {
			if c.database == "" {
				c.database = shared.Database
			}
			refused := login(t, c.user, c.password, c.database)
			switch {
			case refused == nil && c.state == "":
			case refused == nil:
				t.Errorf("let in, want %s", c.state)
			case refused.Code != c.state || refused.Severity != "FATAL":
				t.Errorf("got %s %s %q, want FATAL %q", refused.Severity, refused.Code, refused.Message, c.state)
			case c.state == "28P01" && (refused.Message != `password authentication failed for user "`+c.user+`"` || refused.Detail+refused.Hint != ""):
				t.Errorf("%q %q %q says more than PostgreSQL before the proof", refused.Message, refused.Detail, refused.Hint)
			}
		})
	}
	t.Run("behind the proof", refusedBehindTheProof)
	log, err := os.ReadFile(shared.Nodes[0].Log)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(log), "stored as md5") {
		t.Error("the node's log does not say why the md5 role cannot pass")
	}
	if strings.Contains(string(log), long[:20]) || strings.Contains(string(log), "right\"") {
		t.Error("the node's log holds a password")
	}
}

// What only the server can refuse, once it knows who it is, comes as on its own port:
// behind AuthenticationOk, by its own words, and no ReadyForQuery follows. NOLOGIN is
// not among it: there it is told to who has the password, at the node to nobody.
func refusedBehindTheProof(t *testing.T) {
	for _, c := range []struct{ user, database, server, node string }{
		{"a_full", shared.Database, "53300", "53300"},
		{"a_plain", "a_closed", "42501", "42501"},
		{"a_plain", "a_nowhere", "3D000", "3D000"},
		{"a_nologin", shared.Database, "28000", "28P01"},
	} {
		direct, said := refusedLogIn(t, shared.Nodes[0].Postgres, c.user, c.database)
		if want := "R10 R11 R12 R0 E" + c.server; direct != want {
			t.Errorf("%s at %s: the server itself: got %s, want %s", c.user, c.database, direct, want)
		}
		through, heard := refusedLogIn(t, shared.Nodes[0].Proxy, c.user, c.database)
		want := direct
		if c.node != c.server {
			want = "R10 R11 E" + c.node // before the node has proved that it knows a verifier
		}
		if through != want {
			t.Errorf("%s at %s: got %s, want %s", c.user, c.database, through, want)
		}
		if c.node == c.server && !reflect.DeepEqual(said, heard) {
			t.Errorf("%s at %s: got %+v, want the server's own %+v", c.user, c.database, heard, said)
		}
	}
}

// refusedLogIn is what comes of a log-in with the right password, up to the end.
func refusedLogIn(t *testing.T, address, user, database string) (string, *pgproto3.ErrorResponse) {
	t.Helper()
	c, err := rawpg.Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Write(rawpg.Startup(3<<16, "user", user, "database", database)); err != nil {
		t.Fatal(err)
	}
	got, err := c.LogIn(&rawpg.Scram{Password: "right"})
	if err == nil || c.Err == nil {
		t.Fatalf("%s at %s: in, or without a word: %v", user, database, err)
	}
	var order []string
	for _, m := range got {
		switch m.Type {
		case 'R':
			order = append(order, fmt.Sprintf("R%d", binary.BigEndian.Uint32(m.Body)))
		case 'E':
			order = append(order, "E"+c.Err.Code)
		default:
			order = append(order, string(m.Type))
		}
	}
	if rest, err := c.ReadRest(); err != nil || len(rest) > 0 {
		t.Errorf("%s at %s: then %q, %v; want the end", user, database, rest, err)
	}
	return strings.Join(order, " "), c.Err
}

// TestLongNames: a user's and a database's name are cut where the server cuts them,
// at 63 bytes, inside a character, too; the verifier is that of the name as cut.
func TestLongNames(t *testing.T) {
	admin := shared.Connect(t, shared.SuperDSN(0))
	long := strings.Repeat("n", 80)
	ends := strings.Repeat("e", 61) + strings.Repeat("é", 9)   // the 63rd byte ends a character
	splits := strings.Repeat("s", 62) + strings.Repeat("é", 9) // it begins one
	for _, name := range []string{long, ends, splits} {
		cluster.Exec(t, admin, `create role "`+name+`" login password 'right'`)
		cluster.Exec(t, admin, `create database "`+name+`"`)
	}
	for _, c := range []struct{ user, database, want string }{
		{long, long, "in as " + long[:63] + " at " + long[:63]},
		{long[:70], "", "in as " + long[:63] + " at " + long[:63]},
		{ends, ends, "in as " + ends[:63] + " at " + ends[:63]},
		{splits[:62], splits[:62], "in as " + splits[:62] + " at " + splits[:62]},
		{splits, long, "28P01"}, // CREATE ROLE cut before the character
		{long, splits, "3D000"},
	} {
		for _, address := range []string{shared.Nodes[0].Postgres, shared.Nodes[0].Proxy} {
			if got := entered(t, address, c.user, c.database); got != c.want {
				t.Errorf("%s, user %q, database %q: got %s, want %s", address, c.user, c.database, got, c.want)
			}
		}
	}
}

// entered logs in with exactly these names, and returns who is where then.
func entered(t *testing.T, address, user, database string) string {
	t.Helper()
	c, err := rawpg.Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	params := []string{"user", user}
	if database != "" {
		params = append(params, "database", database)
	}
	if err := c.Write(rawpg.Startup(3<<16, params...)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.LogIn(&rawpg.Scram{Password: "right"}); err != nil {
		if c.Err == nil {
			t.Fatal(err)
		}
		return c.Err.Code
	}
	row := c.Rows(t, "select session_user || ' ' || current_database()")
	who, where, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(row, "D("), ")"), "_")
	return "in as " + who + " at " + where
}

func TestChangedPasswordCountsAtOnce(t *testing.T) {
	admin := shared.Connect(t, shared.SuperDSN(0))
	cluster.Exec(t, admin, "create role a_changed login password 'old'")
	if refused := login(t, "a_changed", "old", shared.Database); refused != nil {
		t.Fatal(refused)
	}
	cluster.Exec(t, admin, "alter role a_changed password 'new'")
	if refused := login(t, "a_changed", "old", shared.Database); refused == nil || refused.Code != "28P01" {
		t.Errorf("the old password: %v", refused)
	}
	if refused := login(t, "a_changed", "new", shared.Database); refused != nil {
		t.Errorf("the new password: %v", refused)
	}
}

// A trust line for the node's address would turn "any password" into "any
// user": a server that asks for no password is refused.
func TestServerMustAskForThePassword(t *testing.T) {
	admin := shared.Connect(t, shared.SuperDSN(0))
	hba := filepath.Join(shared.Nodes[0].DataDir, "pg_hba.conf")
	before, err := os.ReadFile(hba)
	if err != nil {
		t.Fatal(err)
	}
	reload := func(content []byte) {
		if err := os.WriteFile(hba, content, 0o600); err != nil { // the owner stays
			t.Fatal(err)
		}
		cluster.Exec(t, admin, "select pg_reload_conf()")
		cluster.Eventually(t, "pg_hba reloaded", func() bool {
			return cluster.Text(t, admin, "select count(*)::text from pg_hba_file_rules where user_name = '{a_trusted}'") ==
				map[bool]string{true: "1", false: "0"}[strings.Contains(string(content), "a_trusted")]
		})
	}
	cluster.Exec(t, admin, "create role a_trusted login password 'right'")
	defer reload(before)
	for _, c := range []struct{ method, hint string }{
		{"trust", "VAULT_PG_ALLOW_TRUST"},
		{"password", "password_encryption"},
		{"md5", ""}, // a SCRAM verifier is served by SCRAM also on an md5 line
	} {
		t.Run(c.method, func(t *testing.T) {
			reload(append([]byte("host all a_trusted 127.0.0.1/32 "+c.method+"\n"), before...))
			var refused *pgconn.PgError
			// The postmaster takes a moment to hand the new rules to its children.
			cluster.Eventually(t, "the rule to count", func() bool {
				refused = login(t, "a_trusted", "right", shared.Database)
				return (refused == nil) == (c.hint == "")
			})
			if c.hint != "" && (refused.Code != "28000" || !strings.Contains(refused.Hint, c.hint)) {
				t.Errorf("got %s %q, hint %q; want a hint at %s", refused.Code, refused.Message, refused.Hint, c.hint)
			}
		})
	}
}

// TestBusyServer stops the server for a while, so that it starts no backend: a
// log-in waits, as it would at the server's own port.
func TestBusyServer(t *testing.T) {
	c := cluster.Start(t, cluster.Spec{})
	conn, err := pgx.Connect(t.Context(), c.SuperDSN(0))
	if err != nil {
		t.Fatal(err)
	}
	cluster.Exec(t, conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'vault_service'")
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Nodes[0].FreezeServer(t)
	// Two attempts, with and without TLS, were over after 10 s.
	thaw := time.AfterFunc(12*time.Second, func() { c.Nodes[0].ThawServer(t) })
	defer thaw.Stop() // a log-in that failed early: the cleanup thaws
	config, err := pgx.ParseConfig(c.DSN(0, c.User))
	if err != nil {
		t.Fatal("a DSN that does not parse") // its error would show the password
	}
	config.ConnectTimeout = 2 * time.Minute
	client, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		log, readErr := os.ReadFile(c.Nodes[0].Log)
		t.Fatalf("log-in while the server was stopped: %v; the node's log: %s %v", err, log, readErr)
	}
	if got := cluster.Text(t, client, "SELECT session_user::text"); got != c.User {
		t.Errorf("logged in as %q", got)
	}
	if err := client.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
