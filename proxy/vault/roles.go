// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// A LoginRole is a role that may log in to the server.
type LoginRole struct {
	Name   string
	Strong bool // superuser, REPLICATION or BYPASSRLS
}

// maxLoginRoles bounds what LoginRoles asks for.
const maxLoginRoles = 500

const sqlLoginRoles = `SELECT rolname::pg_catalog.text, rolsuper OR rolreplication OR rolbypassrls FROM pg_catalog.pg_roles
 WHERE rolcanlogin AND rolname OPERATOR(pg_catalog.!~) '^pg_' ORDER BY 1 LIMIT $1`

// LoginRoles returns the roles of the local server that may log in, by name, at
// most 500: for a check by the operator. The error is an *Error of KindServer.
func (v *Vault) LoginRoles(ctx context.Context) ([]LoginRole, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	rows, err := v.store.pool.Query(ctx, sqlLoginRoles, maxLoginRoles)
	if err != nil {
		return nil, v.serverError(err)
	}
	roles, err := pgx.CollectRows(rows, pgx.RowToStructByPos[LoginRole])
	if err != nil {
		return nil, v.serverError(err)
	}
	return roles, nil
}
