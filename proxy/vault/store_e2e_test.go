// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
	"github.com/hyperiondb/hyperion-vault/envelope"
)

const servicePassword = `ser'vice\ "p" ä`

// startServers starts plain servers, with hyperion_vault.proxy_login as given.
func startServers(t *testing.T, standbys int) *devcluster.Cluster {
	t.Helper()
	c, err := devcluster.Start(t.Context(), devcluster.Config{Standbys: standbys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	return c
}

// run executes statements as superuser, in the database that gets the vault.
func run(t *testing.T, c *devcluster.Cluster, statements ...string) {
	t.Helper()
	conn, err := c.Primary().ConnectServer(t.Context(), c.Superuser, c.SuperuserPassword, c.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }() // nothing is pending
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// catchUp waits until a standby has what the primary has.
func catchUp(t *testing.T, c *devcluster.Cluster, n *devcluster.Node, ready string) {
	t.Helper()
	conn, err := n.ConnectServer(t.Context(), c.Superuser, c.SuperuserPassword, c.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }() // nothing is pending
	eventually(t, ready, func() bool {
		var ok bool
		err := conn.QueryRow(t.Context(), ready).Scan(&ok)
		return err == nil && ok
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func quoteLiteral(s string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// nodeOf returns the core of a node beside n.
func nodeOf(t *testing.T, c *devcluster.Cluster, n *devcluster.Node, change func(*Config)) (*Vault, *Pin) {
	t.Helper()
	pin, err := PinVaultID(filepath.Join(t.TempDir(), "audit"), "")
	if err != nil {
		t.Fatal(err)
	}
	config := Config{
		Node: n.Name, Local: Server{"tcp", n.Postgres}, User: "vault_service", Password: servicePassword, Database: c.Database,
		Pin: pin, NewSealer: newTestKMS(t).sealer(time.Minute), AllowedIPs: mustAllow(t, "10.0.0.0/8"),
	}
	for _, h := range c.Nodes {
		config.Hosts = append(config.Hosts, Server{"tcp", h.Postgres})
	}
	if change != nil {
		change(&config)
	}
	v, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v, pin
}

// The service role meets a server in every state that an operator can leave it
// in, and says what to do; as soon as it is right, it works without a restart.
func TestServiceRole(t *testing.T) {
	c := startServers(t, 1)
	v, pin := nodeOf(t, c, c.Nodes[0], nil)
	status := func(hint string) {
		t.Helper()
		_, err := v.Status(t.Context())
		if e := asKind(t, err, KindServer); !strings.Contains(e.Hint, hint) {
			t.Errorf("%v: hint %q, want %q in it", e, e.Hint, hint)
		}
	}
	status("VAULT_PG_PASSWORD")
	run(t, c, "CREATE ROLE vault_service LOGIN PASSWORD "+quoteLiteral(servicePassword))
	status("init")
	run(t, c, "CREATE EXTENSION hyperion_vault")
	status("grant_service_role")
	run(t, c, "SELECT vault.grant_service_role('vault_service')")
	status("init")
	run(t, c, "INSERT INTO vault.meta (vault_id, kms_key_ids, bootstrapped_at) VALUES ('"+testVaultID+"', '{}', pg_catalog.now())")

	st, err := v.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.VaultID != testVaultID || st.InRecovery || st.ExtensionVersion == "" {
		t.Errorf("status %+v", st)
	}
	if id, known := pin.ID(); !known || id.String() != testVaultID {
		t.Errorf("pinned %v, %v", id, known)
	}
	if text := sealText(t, v, "a/b", 1, "x"); !bytes.HasPrefix(text, []byte("hv1.")) {
		t.Error("the sealer was not started by the first contact")
	}

	other := envelope.NewUUID().String()
	run(t, c, "UPDATE vault.meta SET vault_id = '"+other+"'")
	_, err = v.Status(t.Context())
	if e := asKind(t, err, KindTampered); !strings.Contains(e.Err.Error(), other) {
		t.Errorf("another vault's id: %v", e)
	}
	run(t, c, "UPDATE vault.meta SET vault_id = '"+testVaultID+"'")

	t.Run("trap", func(t *testing.T) { testTrap(t, c) })
	t.Run("verifiers", func(t *testing.T) { testVerifiers(t, c, v) })
	t.Run("rules", func(t *testing.T) { testRules(t, c, v) })
	t.Run("facts", func(t *testing.T) { testFacts(t, c, v) })
	t.Run("connection", func(t *testing.T) { testConnection(t, c, v) })
	t.Run("standby", func(t *testing.T) { testStandby(t, c) })
	t.Run("restart", func(t *testing.T) { testRestart(t, c, v) })
	t.Run("replaced", func(t *testing.T) { testReplaced(t, c) })
}

// testTrap: a schema of another's, with our names, is never asked: he would run what he
// likes as the service role.
func testTrap(t *testing.T, c *devcluster.Cluster) {
	t.Helper()
	run(t, c, "CREATE DATABASE trap")
	conn, err := c.Primary().ConnectServer(t.Context(), c.Superuser, c.SuperuserPassword, "trap")
	if err == nil {
		_, err = conn.PgConn().Exec(t.Context(), `CREATE SCHEMA vault; GRANT USAGE ON SCHEMA vault TO PUBLIC;
			CREATE FUNCTION vault.status() RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN RAISE 'the trap ran as %', current_user; END$$`).ReadAll()
		err = errors.Join(err, conn.Close(t.Context()))
	}
	if err != nil {
		t.Fatal(err)
	}
	v, _ := nodeOf(t, c, c.Primary(), func(c *Config) { c.Database = "trap" })
	_, err = v.Status(t.Context())
	if e := asKind(t, err, KindServer); !strings.Contains(e.Hint, "VAULT_PG_DBNAME") || strings.Contains(e.Err.Error(), "the trap ran") {
		t.Errorf("%v, hint %q", e, e.Hint)
	}
}

func testVerifiers(t *testing.T, c *devcluster.Cluster, v *Vault) {
	t.Helper()
	run(t, c,
		"CREATE ROLE alice LOGIN PASSWORD 'pw'",
		"CREATE ROLE expired LOGIN PASSWORD 'pw' VALID UNTIL '2001-01-01'",
		"CREATE ROLE nologin NOLOGIN PASSWORD 'pw'",
		"CREATE ROLE nopassword LOGIN",
		"CREATE ROLE root SUPERUSER LOGIN PASSWORD 'pw'",
		`CREATE ROLE "o'brien ""x" LOGIN PASSWORD 'pw'`)
	for user, want := range map[string]bool{
		"alice": true, `o'brien "x`: true,
		"expired": false, "nologin": false, "nopassword": false, "root": false, "nobody": false, "": false, "\xff": false, "a\x00b": false,
	} {
		verifier, found, err := v.LoginVerifier(t.Context(), user)
		if err != nil || found != want || strings.HasPrefix(verifier, "SCRAM-SHA-256$4096:") != want {
			t.Errorf("%q: found %v, %v; want %v", user, found, err, want)
		}
	}
	before, _, err := v.LoginVerifier(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	run(t, c, "ALTER ROLE alice PASSWORD 'pw'")
	if after, _, err := v.LoginVerifier(t.Context(), "alice"); err != nil || after == before {
		t.Errorf("after ALTER ROLE the old verifier is still used (%v)", err)
	}
}

// What the server sees of the service role's connections.
func testConnection(t *testing.T, c *devcluster.Cluster, v *Vault) {
	t.Helper()
	run(t, c, "ALTER ROLE vault_service SET search_path = public", "ALTER ROLE vault_service SET statement_timeout = 0")
	v.store.pool.Reset()
	for setting, want := range map[string]string{
		"search_path": "pg_catalog, pg_temp", "application_name": applicationName, "statement_timeout": "5s",
		"idle_in_transaction_session_timeout": "5s", "client_encoding": "UTF8",
	} {
		got, err := v.store.text(t.Context(), "SELECT pg_catalog.current_setting($1)", setting)
		if err != nil || *got != want {
			t.Errorf("%s: %v, %v; want %q", setting, got, err, want)
		}
	}
	// A socket directory serves as well as a port.
	conn, err := c.Primary().ConnectServer(t.Context(), c.Superuser, c.SuperuserPassword, c.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }() // nothing is pending
	var dirs string
	if err := conn.QueryRow(t.Context(), "SELECT pg_catalog.current_setting('unix_socket_directories')").Scan(&dirs); err != nil {
		t.Fatal(err)
	}
	dir, _, _ := strings.Cut(dirs, ",")
	if dir == "" {
		return // this server has no socket
	}
	_, port, err := net.SplitHostPort(c.Primary().Postgres)
	if err != nil {
		t.Fatal(err)
	}
	socket, _ := nodeOf(t, c, c.Primary(), func(c *Config) { c.Local = Server{"unix", filepath.Join(dir, ".s.PGSQL."+port)} })
	if _, err := socket.Status(t.Context()); err != nil {
		t.Errorf("through the socket: %v", err)
	}
}

func testStandby(t *testing.T, c *devcluster.Cluster) {
	t.Helper()
	standby := c.Nodes[1]
	catchUp(t, c, standby, "SELECT pg_catalog.count(*) = 1 FROM vault.meta WHERE vault_id = '"+testVaultID+"'")
	catchUp(t, c, standby, "SELECT pg_catalog.count(*) = 1 FROM pg_catalog.pg_roles WHERE rolname = 'alice'")
	v, _ := nodeOf(t, c, standby, nil)
	st, err := v.Status(t.Context())
	if err != nil || !st.InRecovery {
		t.Fatalf("status %+v, %v; want a standby's", st, err)
	}
	if _, found, err := v.LoginVerifier(t.Context(), "alice"); err != nil || !found {
		t.Errorf("log-in on a standby: %v, %v", found, err)
	}
	primary, err := v.Primary(t.Context())
	if err != nil || primary.Addr != c.Primary().Postgres {
		t.Errorf("primary %v, %v; want %s", primary, err, c.Primary().Postgres)
	}
	if hint := v.PrimaryHint(t.Context()); !strings.Contains(hint, c.Primary().Postgres) {
		t.Errorf("hint %q", hint)
	}
	alone, _ := nodeOf(t, c, standby, func(c *Config) { c.Hosts = c.Hosts[1:] })
	if _, err := alone.Primary(t.Context()); !errors.Is(err, ErrNoPrimary) {
		t.Errorf("only the standby listed: %v, want ErrNoPrimary", err)
	}
}

// testReplaced: after a promotion the server that was replaced goes on as if
// nothing had happened. It is the last part: the old primary is one no more.
func testReplaced(t *testing.T, c *devcluster.Cluster) {
	t.Helper()
	old, next := c.Nodes[0], c.Nodes[1]
	before, _ := nodeOf(t, c, next, nil)
	if p, err := before.Primary(t.Context()); err != nil || p.Addr != old.Postgres {
		t.Fatalf("primary %v, %v; want %s", p, err, old.Postgres)
	}
	if err := next.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, what := range []struct {
		name string
		v    func() *Vault
	}{
		{"asked before", func() *Vault { return before }},
		{"never asked", func() *Vault { v, _ := nodeOf(t, c, next, nil); return v }},
		{"beside the old one", func() *Vault { v, _ := nodeOf(t, c, old, nil); return v }},
	} {
		v := what.v()
		eventually(t, what.name, func() bool { p, err := v.Primary(t.Context()); return err == nil && p.Addr == next.Postgres })
	}
	if err := next.StopServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	before.primary.Store(nil) // the answer is too old
	if p, err := before.Primary(t.Context()); !errors.Is(err, ErrNoPrimary) {
		t.Errorf("with the new primary down the node goes back to %v, %v; want ErrNoPrimary", p, err)
	}
}

// A restarted server is used again with the next log-in, and Watch logs one
// line for each change.
func testRestart(t *testing.T, c *devcluster.Cluster, v *Vault) {
	t.Helper()
	var log syncBuffer
	v.log = slog.New(slog.NewTextHandler(&log, nil))
	primary := c.Primary()
	if err := primary.KillServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, _, err := v.LoginVerifier(t.Context(), "alice")
	wantKind(t, err, KindServer)

	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { v.Watch(ctx) })
	defer done.Wait()
	defer stop()
	for range 3 {
		seen := v.health.Load()
		eventually(t, "one more round", func() bool { return v.health.Load() != seen })
	}
	if err := primary.StartServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, found, err := v.LoginVerifier(t.Context(), "alice"); err != nil || !found {
		t.Errorf("after the restart: %v, %v", found, err)
	}
	eventually(t, "healthy", func() bool { return v.Health().Err == nil })
	eventually(t, "a line that says so", func() bool { return strings.Contains(log.String(), testVaultID) })
	var last string
	for line := range strings.Lines(log.String()) {
		_, said, _ := strings.Cut(line, `msg="vault `)
		if said != "" && said == last {
			t.Errorf("logged twice in a row: %q", line)
		}
		last = said
	}
}

// syncBuffer is a log that a test can read.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A server that lets the service role in without a password is refused.
func TestTrustIsRefused(t *testing.T) {
	c := startServers(t, 0)
	run(t, c, "CREATE ROLE vault_service LOGIN PASSWORD 'x'", "CREATE EXTENSION hyperion_vault", "SELECT vault.grant_service_role('vault_service')",
		fmt.Sprintf("INSERT INTO vault.meta (vault_id, kms_key_ids, bootstrapped_at) VALUES ('%s', '{}', pg_catalog.now())", testVaultID),
		"COPY (SELECT 'host all all all trust') TO '"+filepath.Join(c.Primary().DataDir, "pg_hba.conf")+"'", "SELECT pg_catalog.pg_reload_conf()")
	strict, _ := nodeOf(t, c, c.Primary(), nil)
	lax, _ := nodeOf(t, c, c.Primary(), func(c *Config) { c.AllowTrust = true })
	eventually(t, "trust in force", func() bool { _, err := lax.Status(t.Context()); return err == nil })
	_, err := strict.Status(t.Context())
	wantKind(t, err, KindServer)
}
