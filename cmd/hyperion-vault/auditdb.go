// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// auditTables are the vault's.
type auditTables struct {
	conn *pgx.Conn
	tx   pgx.Tx // nil until evidence begins
}

// openAuditTables connects in libpq's own ways: environment, password file, service
// file.
func openAuditTables(ctx context.Context, database string) (*auditTables, error) {
	config, err := pgx.ParseConfig("")
	if err != nil {
		return nil, fmt.Errorf("PG* environment: %w", err)
	}
	if database != "" {
		config.Database = database
	}
	config.ConnectTimeout = 10 * time.Second
	config.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) {}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, unreachedByEnvironment(err)
	}
	t := &auditTables{conn: conn}
	// Without row_security a reader whom the policies would show nothing gets an error
	// instead. Rows come by an index, however many there are: no sort on the server.
	_, err = conn.Exec(ctx, `SET application_name = 'hyperion-vault audit'; SET search_path = pg_catalog, pg_temp; SET client_encoding = 'UTF8';
		SET default_transaction_read_only = on; SET row_security = off; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0;
		SET enable_sort = off; SET enable_seqscan = off; SET jit = off; SET max_parallel_workers_per_gather = 0`)
	if err == nil {
		err = t.belong(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, t.Close()) //nolint:contextcheck // see Close
	}
	return t, nil
}

// readTables are what is read of the vault. Names prove nothing: the owner of another
// database can have a view there, which runs what he likes as who reads it.
var readTables = []string{"audit_log", "audit_heads", "audit_anchors", "changes"}

const sqlBelong = `SELECT pg_catalog.current_database(), pg_catalog.count(c.oid), pg_catalog.count(e.oid)
	FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = ANY ($1)
	LEFT JOIN (pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'hyperion_vault')
	ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND c.relkind IN ('r', 'p')
	AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
	WHERE n.nspname = 'vault'`

// belong says that all that is read are tables, and the extension's own.
func (t *auditTables) belong(ctx context.Context) error {
	var database string
	var named, ours int
	if err := t.conn.QueryRow(ctx, sqlBelong, readTables).Scan(&database, &named, &ours); err != nil {
		return err
	}
	switch {
	case ours == len(readTables):
		return nil
	case ours < named:
		return fmt.Errorf("nothing was read: schema vault of database %q is not the extension's, and what is in it may be anybody's: --database or PGDATABASE names the vault's", database)
	}
	return fmt.Errorf("database %q has no audit of a vault (extension 1.6 or later): --database or PGDATABASE names it", database)
}

// Close ends the connection.
func (t *auditTables) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) //nolint:forbidigo // the caller's may have ended
	defer cancel()
	return t.conn.Close(ctx)
}

// evidence begins to read a snapshot: the heads, and the rest as it is asked for.
func (t *auditTables) evidence(ctx context.Context, since time.Time) (_ *audit.Evidence, err error) {
	if t.tx, err = t.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}); err != nil {
		return nil, err
	}
	e := &audit.Evidence{Rows: t.rows(ctx, since)}
	var subjects bool
	err = t.tx.QueryRow(ctx, `SELECT pg_catalog.now(), EXISTS (SELECT FROM pg_catalog.pg_attribute
		WHERE attrelid = 'vault.changes'::pg_catalog.regclass AND attname = 'subject' AND NOT attisdropped)`).Scan(&e.At, &subjects)
	if err != nil {
		return nil, err
	}
	if subjects {
		e.Changes = t.changes(ctx, since)
	}
	e.Heads, err = t.heads(ctx)
	return e, err
}

// heads are the last one of each node and those that were kept.
func (t *auditTables) heads(ctx context.Context) ([]audit.Head, error) {
	var heads []audit.Head
	for h, err := range each(ctx, t.tx, scanHead, `SELECT node_id, seq, hash, at, public_key, signature FROM vault.audit_heads WHERE seq > 0
		UNION ALL SELECT node_id, seq, hash, at, public_key, signature FROM vault.audit_anchors LIMIT $1`, audit.MaxHeads+1) {
		if err != nil {
			return nil, err
		}
		heads = append(heads, h)
	}
	if len(heads) > audit.MaxHeads {
		return nil, fmt.Errorf("vault.audit_anchors has more than %d rows, which no nodes have made", audit.MaxHeads)
	}
	return heads, nil
}

// rowColumns are what scanRow reads. Texts are cut where they are too long for a
// record already.
const rowColumns = `l.node_id, l.seq, pg_catalog.substr(l.prev_hash, 1, 33), pg_catalog.substr(l.hash, 1, 33), l.at,
	coalesce(pg_catalog.left(l.actor, 256), ''), coalesce(pg_catalog.left(l.session_role, 256), ''), l.client_ip, pg_catalog.left(l.face, 33),
	coalesce(pg_catalog.left(l.database, 256), ''), pg_catalog.left(l.action, 33), coalesce(pg_catalog.left(l.secret_name, 256), ''),
	coalesce(l.version, 0), pg_catalog.left(l.outcome, 33), l.direct, coalesce(pg_catalog.left(l.reason, 256), ''), coalesce(l.change, 0),
	coalesce(l.statement, 0)`

// rows are those of each node in order; since: each node's behind its last head that
// is older.
func (t *auditTables) rows(ctx context.Context, since time.Time) iter.Seq2[audit.Row, error] {
	if since.IsZero() {
		return each(ctx, t.tx, scanRow, "SELECT "+rowColumns+" FROM vault.audit_log l ORDER BY l.node_id, l.seq")
	}
	return each(ctx, t.tx, scanRow, "SELECT "+rowColumns+` FROM (SELECT h.node_id, coalesce((SELECT pg_catalog.max(a.seq) FROM vault.audit_anchors a
			WHERE a.node_id = h.node_id AND a.at <= $1), 0) AS seq FROM vault.audit_heads h) n
		CROSS JOIN LATERAL (SELECT * FROM vault.audit_log o WHERE o.node_id = n.node_id AND o.seq > n.seq ORDER BY o.node_id, o.seq) l`, since)
}

// changes are all of them; since: from the first one that is not older.
func (t *auditTables) changes(ctx context.Context, since time.Time) iter.Seq2[audit.Change, error] {
	const columns = `SELECT id, at, pg_catalog.left(action, 256), coalesce(pg_catalog.left(subject, 1024), ''), coalesce(secret_id::pg_catalog.text, ''),
		coalesce(version, 0), session_role::pg_catalog.text, "current_role"::pg_catalog.text FROM vault.changes`
	if since.IsZero() {
		return each(ctx, t.tx, scanChange, columns+" ORDER BY id")
	}
	return each(ctx, t.tx, scanChange, columns+" WHERE id >= (SELECT pg_catalog.min(c.id) FROM vault.changes c WHERE c.at >= $1) ORDER BY id", since)
}

// querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// each streams what a query returns, a row at a time.
func each[T any](ctx context.Context, from querier, scan func(pgx.Rows) (T, error), sql string, args ...any) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		rows, err := from.Query(ctx, sql, args...)
		if err != nil {
			yield(none, readable(err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			if x, err := scan(rows); !yield(x, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(none, readable(err))
		}
	}
}

// readable says who may read, to who may not.
func readable(err error) error {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "42501" {
		return fmt.Errorf("%w (a superuser may read the audit, and a role with BYPASSRLS and the rights of pg_read_all_data)", err)
	}
	return err
}

func scanHead(rows pgx.Rows) (h audit.Head, err error) {
	var hash, key, signature []byte
	var at pgtype.Timestamptz
	var seq int64
	err = rows.Scan((*[16]byte)(&h.Node), &seq, &hash, &at, &key, &signature)
	h.Seq = uint64(max(seq, 0)) // none is signed over 0 either
	h.At = finite(at)
	copy(h.Hash[:], hash)
	copy(h.Key[:], key)
	copy(h.Signature[:], signature)
	return h, err
}

// scanRow reads a record. What none can hold becomes one without a time, which is
// nobody's either.
func scanRow(rows pgx.Rows) (r audit.Row, err error) {
	var prev, hash []byte
	var at pgtype.Timestamptz
	var from *netip.Prefix
	var face, action, outcome string
	var seq, statement int64
	err = rows.Scan((*[16]byte)(&r.Node), &seq, &prev, &hash, &at, &r.Actor, &r.SessionRole, &from, &face, &r.Database, &action, &r.Secret,
		&r.Version, &outcome, &r.Direct, &r.Reason, &r.Change, &statement)
	r.Face, r.Action, r.Outcome = audit.Face(face), audit.Action(action), audit.Outcome(outcome)
	r.Seq = uint64(max(seq, 0))     // no record has 0 either
	r.Statement = uint64(statement) //nolint:gosec // the same bits
	r.At = finite(at)
	if from != nil {
		r.Addr = from.Addr()
	}
	if len(prev) != len(r.Prev) || len(hash) != len(r.Hash) || from != nil && !from.IsSingleIP() {
		r.At = time.Time{}
	}
	copy(r.Prev[:], prev)
	copy(r.Hash[:], hash)
	return r, err
}

func scanChange(rows pgx.Rows) (c audit.Change, err error) {
	var at pgtype.Timestamptz
	err = rows.Scan(&c.ID, &at, &c.Action, &c.Subject, &c.SecretID, &c.Version, &c.SessionRole, &c.CurrentRole)
	c.At = finite(at)
	return c, err
}

// finite is a time as records have them; none for an infinite one.
func finite(at pgtype.Timestamptz) time.Time {
	if at.InfinityModifier != pgtype.Finite {
		return time.Time{}
	}
	return at.Time.UTC()
}
