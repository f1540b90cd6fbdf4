// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

type initCommand struct {
	Hosts        string `placeholder:"HOST,…" help:"All servers of the cluster: host, host:port, [v6]:port or a socket directory. Default: what PGHOST, PGPORT or PGSERVICE name."`
	Database     string `default:"postgres" help:"The database that gets the vault (VAULT_PG_DBNAME of the nodes). It must exist."`
	ServiceRole  string `default:"vault_service" help:"The role that the nodes log in as (VAULT_PG_USER)."`
	PasswordFile string `name:"service-password-file" default:"vault_service.password" placeholder:"FILE" help:"File with the service role's password (VAULT_PG_PASSWORD_FILE); made if it does not exist and the role needs one. \"-\" reads the password from stdin. Default: vault_service.password in the working directory."`
	NewPassword  bool   `name:"reset-service-password" help:"Give an existing service role this password; without, it keeps its own. Every node needs the new one."`
	JSON         bool   `name:"json" help:"One line of JSON on stdout."`
}

// initResult is what was made; the token is shown this once.
type initResult struct {
	VaultID     string   `json:"vault_id"`
	Database    string   `json:"database"`
	ServiceRole string   `json:"service_role"`
	AdminToken  string   `json:"admin_token,omitempty"`
	Done        []string `json:"done"`
	Notes       []string `json:"notes,omitempty"`

	DumpFails   *roleList `json:"dump_fails,omitempty"`    // could dump the database before
	CannotLogIn *roleList `json:"cannot_log_in,omitempty"` // through a node
}

func (r *initResult) did(format string, args ...any) {
	r.Done = append(r.Done, fmt.Sprintf(format, args...))
}

func (r *initResult) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// Run asks every server first and changes something only if all can follow.
func (c *initCommand) Run(ctx context.Context, std *streams) error {
	servers, err := c.connectAll(ctx)
	defer func() {
		for _, s := range servers {
			if s.conn != nil {
				_ = s.conn.Close(ctx) // every result was read
			}
		}
	}()
	if err != nil {
		return err
	}
	primary, err := survey(ctx, servers)
	if err != nil {
		return err
	}
	result := &initResult{Database: c.Database, ServiceRole: c.ServiceRole}
	for _, step := range []func(context.Context, *pgx.Conn, *initResult) error{
		c.extension, c.vaultID, func(ctx context.Context, conn *pgx.Conn, r *initResult) error { return c.role(ctx, conn, std, r) },
		c.preload,
	} {
		if err := step(ctx, primary.conn, result); err != nil {
			return err
		}
	}
	lets := true
	for _, s := range servers {
		if err := c.nameDatabase(ctx, s, result); err != nil {
			return err
		}
		if s.files != primary.files {
			result.note("%s: the extension's files are %s, those of the primary %s: install the same version of %s there", s.name, s.files, primary.files, s.pkg())
		}
		lets = lets && s.strongLogins
	}
	c.judgeRoles(ctx, primary.conn, lets, result)
	return c.conclude(ctx, primary.conn, std, result)
}

// conclude makes the first admin token, and reports before that counts: while there is one,
// init makes no other, so nobody would ever see it if the report failed, or we ended.
func (c *initCommand) conclude(ctx context.Context, conn *pgx.Conn, std *streams, r *initResult) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := firstToken(ctx, tx, r); err != nil {
			return err
		}
		return c.report(std, r)
	})
	if err != nil && r.AdminToken != "" {
		return fmt.Errorf("first admin token: %w; run init again: if it shows a token, that one counts", err)
	}
	return err
}

func (c *initCommand) extension(ctx context.Context, conn *pgx.Conn, r *initResult) error {
	var have, offered string
	err := conn.QueryRow(ctx, `SELECT coalesce(e.extversion, ''), a.default_version
		FROM pg_catalog.pg_available_extensions a LEFT JOIN pg_catalog.pg_extension e ON e.extname = a.name
		WHERE a.name = 'hyperion_vault'`).Scan(&have, &offered)
	if err != nil {
		return fmt.Errorf("extension: %w", err)
	}
	switch {
	case have == "":
		if err := c.onlyVault(ctx, conn); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "CREATE EXTENSION hyperion_vault"); err != nil {
			return fmt.Errorf("CREATE EXTENSION hyperion_vault in %q: %w", c.Database, err)
		}
		r.did("created the extension (%s) in database %s", offered, c.Database)
	case have != offered:
		r.note("the extension is %s, its files are %s: run ALTER EXTENSION hyperion_vault UPDATE", have, offered)
	}
	return nil
}

// vaultID is made once; a restored dump brings its own.
func (c *initCommand) vaultID(ctx context.Context, conn *pgx.Conn, r *initResult) error {
	tag, err := conn.Exec(ctx, "INSERT INTO vault.meta (vault_id, kms_key_ids, bootstrapped_at) VALUES ($1, '{}', pg_catalog.now()) ON CONFLICT DO NOTHING",
		envelope.NewUUID().String())
	if err != nil {
		return fmt.Errorf("vault id: %w", err)
	}
	if err := conn.QueryRow(ctx, "SELECT vault_id::pg_catalog.text FROM vault.meta").Scan(&r.VaultID); err != nil {
		return fmt.Errorf("vault id: %w", err)
	}
	if tag.RowsAffected() == 1 {
		r.did("made the vault id %s", r.VaultID)
	}
	return nil
}

func (c *initCommand) role(ctx context.Context, conn *pgx.Conn, std *streams, r *initResult) error {
	if c.ServiceRole == "" {
		return faultf("--service-role is empty: it should be the name of a role")
	}
	var exists, strong bool
	err := conn.QueryRow(ctx, `SELECT pg_catalog.count(*) > 0, coalesce(pg_catalog.bool_or(rolsuper OR rolbypassrls OR rolreplication), false)
		FROM pg_catalog.pg_roles WHERE rolname = $1`, c.ServiceRole).Scan(&exists, &strong)
	if err != nil {
		return fmt.Errorf("service role: %w", err)
	}
	if strong {
		return fmt.Errorf("the role %q is a superuser, or has REPLICATION or BYPASSRLS: the service role must be an ordinary one", c.ServiceRole)
	}
	name := pgx.Identifier{c.ServiceRole}.Sanitize()
	if exists && !c.NewPassword {
		if err := c.judgePassword(ctx, conn, std, r); err != nil {
			return err
		}
	} else {
		verb, done := "CREATE ROLE ", "created the service role %s"
		if exists {
			verb, done = "ALTER ROLE ", "gave the service role %s its new password"
		}
		verifier, err := c.password(std, r)
		if err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, verb+name+" LOGIN PASSWORD '"+verifier+"'"); err != nil {
			return fmt.Errorf("service role: %w", err)
		}
		r.did(done, c.ServiceRole)
	}
	_, err = conn.Exec(ctx, "GRANT CONNECT ON DATABASE "+pgx.Identifier{c.Database}.Sanitize()+" TO "+name)
	if err == nil {
		_, err = conn.Exec(ctx, "SELECT vault.grant_service_role(pg_catalog.quote_ident($1)::pg_catalog.regrole)", c.ServiceRole)
	}
	if err != nil {
		return fmt.Errorf("rights of the service role: %w", err)
	}
	return nil
}

// preload has the library in every session of the database, so that its
// settings are protected from the first moment of a session on.
func (c *initCommand) preload(ctx context.Context, conn *pgx.Conn, r *initResult) error {
	var session, shared string
	err := conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('session_preload_libraries'), pg_catalog.current_setting('shared_preload_libraries')").Scan(&session, &shared)
	if err != nil {
		return fmt.Errorf("preload: %w", err)
	}
	libraries := listed(session)
	if !slices.Contains(libraries, "hyperion_vault") {
		quoted := make([]string, 0, len(libraries)+1)
		for _, library := range append(libraries, "hyperion_vault") {
			quoted = append(quoted, "'"+strings.ReplaceAll(library, "'", "''")+"'")
		}
		statement := "ALTER DATABASE " + pgx.Identifier{c.Database}.Sanitize() + " SET session_preload_libraries = " + strings.Join(quoted, ", ")
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("preload: %w", err)
		}
		r.did("set session_preload_libraries for database %s", c.Database)
	}
	if !slices.Contains(listed(shared), "hyperion_vault") {
		r.note("hyperion_vault is not in shared_preload_libraries: add it on every server and restart, then rotations are enqueued also while no node runs")
	}
	return nil
}

// listed splits a list of libraries.
func listed(text string) []string {
	var list []string
	for _, element := range strings.Split(text, ",") {
		if element = strings.Trim(strings.TrimSpace(element), `"`); element != "" {
			list = append(list, element)
		}
	}
	return list
}

// firstToken is made only while none ever existed; the server learns its hash.
func firstToken(ctx context.Context, tx pgx.Tx, r *initResult) error {
	token := vault.NewToken()
	defer erase.Zero(token)
	hash := sha256.Sum256(token)
	tag, err := tx.Exec(ctx, `INSERT INTO vault.admin_tokens (name, token_sha256)
		SELECT 'init', $1 WHERE NOT EXISTS (SELECT FROM vault.admin_tokens)`, hash[:])
	if err != nil {
		return fmt.Errorf("first admin token: %w", err)
	}
	if tag.RowsAffected() == 1 {
		r.AdminToken = string(token)
		r.did("made the first admin token")
	}
	return nil
}

// nameDatabase tells each server's worker where the vault is; ALTER SYSTEM does
// not travel by replication.
func (c *initCommand) nameDatabase(ctx context.Context, s *server, r *initResult) error {
	var now string
	if err := s.conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('hyperion_vault.database')").Scan(&now); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	if now == c.Database {
		return nil
	}
	statement := "ALTER SYSTEM SET hyperion_vault.database = '" + strings.ReplaceAll(c.Database, "'", "''") + "'"
	for _, statement := range []string{statement, "SELECT pg_catalog.pg_reload_conf()"} {
		if _, err := s.conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	r.did("%s: set hyperion_vault.database to %s", s.name, c.Database)
	return nil
}

func (c *initCommand) report(std *streams, r *initResult) error {
	if c.JSON {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(std.out, "%s\n", shownJSON(string(line)))
		return err
	}
	var b strings.Builder
	for _, line := range r.Done {
		fmt.Fprintf(&b, "%s\n", shown(line))
	}
	if len(r.Done) == 0 {
		b.WriteString("everything was there already\n")
	}
	for _, line := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", shown(line))
	}
	r.DumpFails.print(&b, "cannot dump the database any more")
	r.CannotLogIn.print(&b, "cannot log in through a node")
	fmt.Fprintf(&b, "vault id: %s\n", r.VaultID)
	if r.AdminToken != "" {
		fmt.Fprintf(&b, "admin token, shown only now: %s\n", r.AdminToken)
	}
	_, err := fmt.Fprint(std.out, b.String())
	return err
}
