// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// maxListedRoles bounds a list of roles, of which a server may have thousands.
const maxListedRoles = 50

// A roleList is roles for which something does not work, by name.
type roleList struct {
	Count int        `json:"count"`
	Note  string     `json:"note"`  // holds for all of them
	Roles []roleWord `json:"roles"` // the first maxListedRoles of them
}

// A roleWord is why, and what to do.
type roleWord struct {
	Role   string `json:"role"`
	Why    string `json:"why"`
	Remedy string `json:"remedy"`
}

// sqlDumpFails finds who could read all that a dump of this database has but for the
// vault, and cannot read that: pg_dump switches row security off, and what is FORCEd
// is then an error for all but superusers and BYPASSRLS, also for the owner.
const sqlDumpFails = `WITH dumped AS (
 SELECT c.*, x.extname IS NOT DISTINCT FROM 'hyperion_vault' AS ours
 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e'
  AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
 LEFT JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
 WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND (x.oid IS NULL OR c.oid = ANY (x.extconfig))
), roles AS (
 SELECT r.*, pg_catalog.quote_ident(r.rolname) AS quoted FROM pg_catalog.pg_roles r
 WHERE r.rolcanlogin AND NOT r.rolsuper AND pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT')
), failing AS (
 SELECT r.*, EXISTS (SELECT FROM dumped c WHERE c.ours AND NOT (pg_catalog.has_schema_privilege(r.oid, c.relnamespace, 'USAGE')
  AND CASE c.relkind WHEN 'S' THEN pg_catalog.has_sequence_privilege(r.oid, c.oid, 'SELECT')
  ELSE pg_catalog.has_table_privilege(r.oid, c.oid, 'SELECT') END)) AS denied FROM roles r
)
SELECT count(*) OVER (), r.rolname::text, CASE WHEN r.denied THEN 'permission denied for the vault''s tables' ELSE 'row-level security of the vault''s tables' END,
 pg_catalog.concat_ws('; ', CASE WHEN r.denied THEN 'GRANT pg_read_all_data TO ' || r.quoted END,
  CASE WHEN NOT r.rolbypassrls THEN 'ALTER ROLE ' || r.quoted || ' BYPASSRLS' END)
 FROM failing r
 WHERE (r.denied OR NOT r.rolbypassrls)
 AND (pg_catalog.pg_has_role(r.oid, 'pg_read_all_data', 'USAGE') OR EXISTS (SELECT FROM dumped c WHERE NOT c.ours)
  OR EXISTS (SELECT FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database() AND pg_catalog.pg_has_role(r.oid, d.datdba, 'USAGE')))
 AND NOT EXISTS (SELECT FROM dumped c WHERE NOT c.ours AND NOT (pg_catalog.has_schema_privilege(r.oid, c.relnamespace, 'USAGE')
  AND CASE c.relkind WHEN 'S' THEN pg_catalog.has_sequence_privilege(r.oid, c.oid, 'SELECT')
  ELSE pg_catalog.has_table_privilege(r.oid, c.oid, 'SELECT') END
  AND (NOT c.relrowsecurity OR r.rolbypassrls OR NOT c.relforcerowsecurity AND pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE'))))
 ORDER BY r.rolname LIMIT $1`

// sqlCannotLogIn finds whom vault.login_verifier() has nothing for. No verifier leaves
// the server.
const sqlCannotLogIn = `SELECT count(*) OVER (), r.rolname::text, w.why, CASE w.why
  WHEN 'superuser, REPLICATION or BYPASSRLS' THEN 'the server''s own port; or hyperion_vault.proxy_login = all on every server'
  WHEN 'its password has expired' THEN 'ALTER ROLE ' || pg_catalog.quote_ident(r.rolname) || ' VALID UNTIL ''infinity'''
  ELSE 'SET password_encryption = ''scram-sha-256''; \password ' || pg_catalog.quote_ident(r.rolname) END
 FROM pg_catalog.pg_authid r, LATERAL (SELECT CASE
  WHEN NOT $2 AND (r.rolsuper OR r.rolreplication OR r.rolbypassrls) THEN 'superuser, REPLICATION or BYPASSRLS'
  WHEN r.rolpassword IS NULL THEN 'it has no password'
  WHEN r.rolpassword !~ '^SCRAM-SHA-256\$' THEN 'its password is stored as md5'
  WHEN r.rolvaliduntil < pg_catalog.now() THEN 'its password has expired' END AS why) w
 WHERE r.rolcanlogin AND r.rolname <> $3 AND w.why IS NOT NULL ORDER BY r.rolname LIMIT $1`

// judgeRoles names those who will be surprised. That it cannot is no reason to fail.
func (c *initCommand) judgeRoles(ctx context.Context, conn *pgx.Conn, strongLogins bool, r *initResult) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var err error
	if r.CannotLogIn, err = listRoles(ctx, conn, sqlCannotLogIn, maxListedRoles, strongLogins, c.ServiceRole); err == nil {
		r.DumpFails, err = listRoles(ctx, conn, sqlDumpFails, maxListedRoles)
	}
	if r.CannotLogIn != nil {
		r.CannotLogIn.Note = "the server's own port is as open to them as before"
	}
	if r.DumpFails != nil {
		r.DumpFails.Note = "pg_dump --exclude-schema=vault, whose dump is without the vault, is still theirs"
		if !strongLogins {
			r.DumpFails.Note += "; with BYPASSRLS a role cannot log in through a node, so give it to a role for dumps and not to an application's"
		}
	}
	if err != nil {
		r.note("not all roles were judged: %s", connectFault(err))
	}
}

// listRoles returns nil if there are none.
func listRoles(ctx context.Context, conn *pgx.Conn, sql string, args ...any) (*roleList, error) {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	var l roleList
	var w roleWord
	_, err = pgx.ForEachRow(rows, []any{&l.Count, &w.Role, &w.Why, &w.Remedy}, func() error {
		l.Roles = append(l.Roles, w)
		return nil
	})
	if err != nil || l.Count == 0 {
		return nil, err
	}
	return &l, nil
}

// print writes nothing for nobody.
func (l *roleList) print(b *strings.Builder, what string) {
	if l == nil {
		return
	}
	roles := "roles"
	if l.Count == 1 {
		roles = "role"
	}
	fmt.Fprintf(b, "note: %d %s %s (%s):\n", l.Count, roles, what, l.Note)
	t := newTable(b)
	for _, r := range l.Roles {
		t.line("  "+r.Role, r.Why, r.Remedy)
	}
	_ = t.end() // a Builder takes all
	if more := l.Count - len(l.Roles); more > 0 {
		fmt.Fprintf(b, "  … and %d more\n", more)
	}
}
