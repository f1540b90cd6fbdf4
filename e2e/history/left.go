// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package history

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ReadFinal reads what the primary holds of the secrets under a prefix. dsn is a
// superuser's, at the primary's node.
func ReadFinal(ctx context.Context, dsn, prefix string) (Final, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("a DSN that does not parse") // its error would show the password
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("final state: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // all was read, or an error is told
	const sql = `SELECT pg_is_in_recovery(), s.name, s.current_version, s.deleted_at IS NOT NULL, coalesce(s.grace_period >= '1 hour', false),
		coalesce(s.description, ''), coalesce(v.version, 0), vault.read_secret(s.name, v.version, true)
		FROM vault.secrets s LEFT JOIN vault.secret_versions v ON v.secret_id = s.id WHERE starts_with(s.name, $1)`
	rows, err := conn.Query(ctx, sql, prefix+"/")
	if err != nil {
		return nil, fmt.Errorf("final state: %w", err)
	}
	final := Final{}
	var standby bool
	var name string
	var s Secret
	var version int
	var value *string
	_, err = pgx.ForEachRow(rows, []any{&standby, &name, &s.Current, &s.Deleted, &s.Kept, &s.Description, &version, &value}, func() error {
		if standby {
			return errors.New("the server is not the primary")
		}
		s.Values = final[name].Values
		if s.Values == nil {
			s.Values = map[int]string{}
		}
		if value != nil && version != 0 {
			s.Values[version] = *value
		}
		final[name] = s
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("final state: %w", err)
	}
	return final, nil
}
