// SPDX-License-Identifier: GPL-3.0-or-later

package devcluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

// provision makes roles, database and vault on a new primary.
func (c *Cluster) provision(ctx context.Context, primary *Node) error {
	conn, err := primary.ConnectServer(ctx, c.Superuser, c.SuperuserPassword, superuser)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // every result was read
	user, database := pgx.Identifier{c.User}.Sanitize(), pgx.Identifier{c.Database}.Sanitize()
	statements := []string{
		"CREATE ROLE " + replicator + " LOGIN REPLICATION PASSWORD " + literal(c.secrets.ReplicationPassword),
		"CREATE ROLE " + user + " LOGIN PASSWORD " + literal(c.Password),
	}
	if c.Database != superuser {
		statements = append(statements, "CREATE DATABASE "+database+" OWNER "+user)
	}
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	if c.config.Binary != "" {
		if err := c.initVault(ctx, primary); err != nil {
			return err
		}
		if err := c.grantAll(ctx, primary); err != nil {
			return err
		}
	}
	return c.saveState()
}

// literal quotes for a text without parameters.
func literal(s string) string {
	quoted := quoteConf(s)
	return "E" + quoted // quoteConf doubles backslashes
}

// initVault runs `hyperion-vault init` as an operator would.
func (c *Cluster) initVault(ctx context.Context, primary *Node) error {
	passwordFile := filepath.Join(c.dir, "service.pass")
	if err := writeFile(passwordFile, []byte(c.secrets.ServicePassword+"\n"), account{}); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(primary.Postgres)
	if err != nil {
		return err
	}
	env := environment(c.bindir, c.dir, "PGHOST="+host, "PGPORT="+port, "PGUSER="+c.Superuser, "PGPASSWORD="+c.SuperuserPassword, "PGSSLMODE=disable")
	out, err := run(ctx, c.spawner, account{}, c.dir, env, c.config.Binary, "init", "--json",
		"--database", c.Database, "--service-role", serviceRole, "--service-password-file", passwordFile)
	if err != nil {
		return err
	}
	var made struct {
		VaultID    string `json:"vault_id"`
		AdminToken string `json:"admin_token"`
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		return errors.New("init did not answer in JSON")
	}
	c.secrets.VaultID, c.secrets.AdminToken = made.VaultID, made.AdminToken
	return nil
}

// grantAll lets the user do everything with every secret.
func (c *Cluster) grantAll(ctx context.Context, primary *Node) error {
	conn, err := primary.ConnectServer(ctx, c.Superuser, c.SuperuserPassword, c.Database)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // every result was read
	role := literal(pgx.Identifier{c.User}.Sanitize())
	if _, err := conn.Exec(ctx, "SELECT vault.grant_access("+role+"::pg_catalog.regrole, '*', '*')"); err != nil {
		return fmt.Errorf("grant to %s: %w", c.User, err)
	}
	return nil
}
