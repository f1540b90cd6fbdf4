// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"strconv"
	"strings"
	"unique"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// A catalog says what of the vault the session's database has: objects count
// only if they are members of the extension (pg_depend, deptype e), never by
// their name alone.
type catalog struct {
	sealed    uint32                // OID of vault.sealed; 0: no vault here
	array     uint32                // OID of its array type
	functions unique.Handle[string] // OIDs of the extension's functions, with commas: one text for all sessions
	foreign   bool                  // schema vault belongs to another extension
	bypasses  bool                  // grants and policies: the role is a superuser or has BYPASSRLS
}

// has reports whether this database has the vault.
func (c *catalog) has() bool { return c.sealed != 0 }

// hasFunction reports whether the function is one of the extension's.
func (c *catalog) hasFunction(o uint32) bool {
	if c.functions == (unique.Handle[string]{}) {
		return false
	}
	for s := range strings.SplitSeq(c.functions.Value(), ",") {
		if oid(s) == o && o != 0 {
			return true
		}
	}
	return false
}

// catalogColumns is how many catalogQuery has. The last is who answers: behind a
// pooler it is not who logged us in, and what the node says of sessions,
// transactions and cancel keys would be about nobody.
const catalogColumns = 6

// catalogQuery runs as the user, whose search_path may be hostile: every name
// and operator is qualified.
const catalogQuery = `SELECT coalesce(t.oid, 0), coalesce(t.typarray, 0),
 (SELECT pg_catalog.string_agg(d.objid::pg_catalog.text, ',') FROM pg_catalog.pg_depend d
   WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
   AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
   AND d.refobjid OPERATOR(pg_catalog.=) e.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'),
 EXISTS (SELECT FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_depend d ON d.objid OPERATOR(pg_catalog.=) n.oid
   WHERE n.nspname OPERATOR(pg_catalog.=) 'vault' AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
   AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
   AND d.deptype OPERATOR(pg_catalog.=) 'e' AND d.refobjid OPERATOR(pg_catalog.<>) coalesce(e.oid, 0)),
 (SELECT r.rolsuper OR r.rolbypassrls FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) session_user),
 pg_catalog.pg_backend_pid()
FROM (SELECT 1) one
LEFT JOIN pg_catalog.pg_extension e ON e.extname OPERATOR(pg_catalog.=) 'hyperion_vault'
LEFT JOIN (pg_catalog.pg_depend td JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) td.objid
   AND t.typname OPERATOR(pg_catalog.=) 'sealed')
 ON td.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass
 AND td.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
 AND td.refobjid OPERATOR(pg_catalog.=) e.oid AND td.deptype OPERATOR(pg_catalog.=) 'e'`

// readCatalog asks the user's own backend, before the client sees its first
// ReadyForQuery: one round trip.
func (ss *session) readCatalog() error {
	// Whatever the role's defaults are: a standby refuses serializable, and a plan
	// around what is disabled would be compiled, for a second.
	const query = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL jit = off;" + catalogQuery
	if _, err := ss.server().Write(wire.AppendQuery(nil, query)); err != nil {
		return err
	}
	failed, stranger := false, true
	for {
		typ, body, err := ss.server().next(wire.MaxLogin)
		if err != nil {
			return errClosedAtLogin
		}
		switch typ {
		case wire.DataRow:
			f := fields(body)
			ss.catalog.read(f)
			stranger = len(f) != catalogColumns || string(f[catalogColumns-1]) != strconv.FormatUint(uint64(ss.server().pid), 10)
		case wire.ErrorResponse:
			failed = true
		case wire.ParameterStatus:
			if isReport(body) {
				ss.report(body)
				break
			}
			ss.reported.note(body)
		case wire.ReadyForQuery:
			if failed || len(body) != 1 {
				return fatalError(stateSystem, "the node could not look for the vault in this database",
					"A statement_timeout of this role, or a damaged catalog, may be the reason; the server's log says more.")
			}
			if stranger {
				ss.srv.cfg.Log.Error("VAULT_LOCAL_PG is a pooler, not a PostgreSQL server", "server", ss.srv.cfg.Local.Addr)
				return pooled()
			}
			ss.state = body[0]
			return nil
		}
	}
}

func pooled() *sqlError {
	return fatalError(stateSystem, "between this node and its PostgreSQL server is a pooler",
		"Point VAULT_LOCAL_PG on the node at the server itself; a pooler belongs in front of nodes.")
}

// read takes the one row of catalogQuery.
func (c *catalog) read(f [][]byte) {
	if len(f) != catalogColumns {
		return
	}
	c.sealed, c.array = oid(string(f[0])), oid(string(f[1]))
	c.functions = unique.Make(string(f[2]))
	c.foreign, c.bypasses = string(f[3]) == "t", string(f[4]) == "t"
}
