// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// onlyVault refuses to make a second vault. Where one may be is what the worker looks
// after, and each database in which init has set what is preloaded.
func (c *initCommand) onlyVault(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, `SELECT d.datname::text FROM pg_catalog.pg_database d WHERE d.datname <> pg_catalog.current_database()
		AND (d.datname = pg_catalog.current_setting('hyperion_vault.database') OR EXISTS (
			SELECT FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) line
			WHERE s.setdatabase = d.oid AND line LIKE 'session_preload_libraries=%hyperion_vault%'))
		ORDER BY 1`)
	if err != nil {
		return fmt.Errorf("other databases: %w", err)
	}
	databases, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("other databases: %w", err)
	}
	for _, database := range databases {
		has, err := hasVault(ctx, conn, database)
		if err != nil {
			return fmt.Errorf("nothing was changed: database %q may have the cluster's vault, and cannot be asked: %s; let %q connect to it",
				database, connectFault(err), conn.Config().User)
		}
		if has {
			return fmt.Errorf("nothing was changed: the cluster's vault is in database %q, and a cluster has one: run init with --database %s; "+
				"to have it in %q, move it there first (pg_dump, pg_restore); for a second vault make a second cluster", database, database, c.Database)
		}
	}
	return nil
}

// hasVault asks another database of a connection's server.
func hasVault(ctx context.Context, conn *pgx.Conn, database string) (has bool, err error) {
	config := conn.Config()
	config.Database = database
	other, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return false, err
	}
	defer func() { _ = other.Close(ctx) }() // the result was read
	err = other.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'hyperion_vault')").Scan(&has)
	return has, err
}
