// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package history

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A session is one connection.
type session struct {
	id   int
	node Node
	run  *Run
	conn *pgx.Conn
	rng  *rand.Rand
	mode pgx.QueryExecMode
	left int // operations that it has to live
}

// connect opens a session and gives it settings; nil: it could not.
func (c *client) connect(ctx context.Context, n Node) *session {
	modes := []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol}
	s := &session{
		id: int(c.r.sessions.Add(1)), node: n, run: c.r, rng: c.rng, left: c.r.spec.Lifetime,
		mode: modes[c.rng.IntN(len(modes))],
	}
	op := c.begin(n, s.id, Connect)
	err := s.open(ctx)
	op.settleUncommitted(err)
	c.record(op)
	if err != nil {
		return nil
	}
	op = c.begin(n, s.id, Set)
	s.perform(ctx, op)
	c.record(op)
	if op.Outcome != OK {
		c.drop(ctx, s)
		return nil
	}
	return s
}

func (s *session) open(ctx context.Context) error {
	config, err := pgx.ParseConfig(s.node.DSN)
	if err != nil {
		return errors.New("a DSN that does not parse") // its error would show the password
	}
	config.ConnectTimeout = 0 // the run's patience
	config.DefaultQueryExecMode = s.mode
	ctx, cancel := s.patiently(ctx)
	defer cancel()
	s.conn, err = pgx.ConnectConfig(ctx, config)
	return err
}

// patiently is a context for one operation. It outlives the run's end, so that
// each operation has an outcome.
func (s *session) patiently(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), s.run.spec.Patience)
}

// perform does op on the server and fills in what came of it.
func (s *session) perform(ctx context.Context, op *Op) {
	ctx, cancel := s.patiently(ctx)
	defer cancel()
	switch {
	case op.Kind == Set:
		op.settle(s.set(ctx, op.Set))
	case s.rng.IntN(4) == 0:
		s.inBlock(ctx, op)
	default:
		op.settle(s.ask(ctx, s.conn, op))
	}
}

// set changes settings as clients do, in either way.
func (s *session) set(ctx context.Context, want *Settings) error {
	if s.rng.IntN(2) == 0 {
		sql := fmt.Sprintf("SET app.tenant = '%s'; SET ROLE %s; SET search_path = %s", want.Tenant, want.Role, want.SearchPath)
		_, err := s.conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		return err
	}
	const sql = `SELECT pg_catalog.set_config('app.tenant', $1, false), pg_catalog.set_config('search_path', $2, false), pg_catalog.set_config('role', $3, false)`
	_, err := s.conn.Exec(ctx, sql, want.Tenant, want.SearchPath, want.Role)
	return err
}

// inBlock is ask in a transaction block, read-only for what reads.
func (s *session) inBlock(ctx context.Context, op *Op) {
	options := pgx.TxOptions{}
	if op.Kind == Read {
		options.AccessMode = pgx.ReadOnly
	}
	tx, err := s.conn.BeginTx(ctx, options)
	if err != nil {
		op.settleUncommitted(err)
		return
	}
	if err := s.ask(ctx, tx, op); err != nil {
		op.settleUncommitted(err)
		_ = tx.Rollback(ctx) // which closes the connection if it fails
		return
	}
	op.settle(tx.Commit(ctx))
}

// asker is a connection or a transaction.
type asker interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// The columns that each statement has beside its result: its session's settings,
// and, of a write, where the primary's log stands.
const (
	underSettings = `, coalesce(pg_catalog.current_setting('app.tenant', true), ''), pg_catalog.current_setting('role'), pg_catalog.current_setting('search_path')`
	atPosition    = `, pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text, pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn())`
)

// ask runs the statement of an operation and keeps its result in op.
func (s *session) ask(ctx context.Context, on asker, op *Op) error {
	if op.Kind == Read {
		return s.read(ctx, on, op)
	}
	args := []any{op.Name}
	var call string
	var result any
	var there bool
	var nothing *string
	switch op.Kind {
	case Put:
		call, args, result = "vault.put_secret($1, $2)", append(args, op.Value), &op.Version
	case Create:
		call, args, result = "vault.create_secret($1, 'manual', $2, grace_period => '1 day')", append(args, op.Value), &op.Version
	case Update:
		call, args, result = "vault.update_secret($1, description => $2)", append(args, op.Description), &nothing
	case Delete:
		call, result = "vault.delete_secret($1)", &there
	default:
		return fmt.Errorf("internal error: no statement for %s", op.Kind)
	}
	var seen Settings
	var lsn, file string
	err := on.QueryRow(ctx, "SELECT "+call+underSettings+atPosition, args...).
		Scan(result, &seen.Tenant, &seen.Role, &seen.SearchPath, &lsn, &file)
	if err != nil {
		return err
	}
	op.Seen, op.Missing = &seen, op.Kind == Delete && !there
	op.Timeline, op.LSN, err = position(lsn, file)
	return err
}

// read shows the value and what is said of the secret under the same snapshot.
func (s *session) read(ctx context.Context, on asker, op *Op) error {
	const sql = `SELECT vault.read_secret($1, $2::pg_catalog.int4, true), coalesce(l.current_version, 0), coalesce(l.description, '')` + underSettings +
		` FROM (SELECT) one LEFT JOIN vault.list_secrets($1) l ON l.name OPERATOR(pg_catalog.=) $1`
	var asked *int
	if op.Asked != 0 {
		asked = &op.Asked
	}
	var value *string
	var seen Settings
	err := on.QueryRow(ctx, sql, op.Name, asked).Scan(&value, &op.Version, &op.Description, &seen.Tenant, &seen.Role, &seen.SearchPath)
	if err != nil {
		return err
	}
	op.Seen, op.Missing = &seen, value == nil
	if value != nil {
		op.Value = *value
	}
	return nil
}

// position reads a place in the log and the name of its file, which begins with
// the timeline.
func position(lsn, file string) (timeline int, at uint64, err error) {
	high, low, found := strings.Cut(lsn, "/")
	if !found || len(file) < 8 {
		return 0, 0, fmt.Errorf("position %q in %q", lsn, file)
	}
	upper, err := strconv.ParseUint(high, 16, 32)
	if err != nil {
		return 0, 0, err
	}
	lower, err := strconv.ParseUint(low, 16, 32)
	if err != nil {
		return 0, 0, err
	}
	number, err := strconv.ParseInt(file[:8], 16, 32)
	return int(number), upper<<32 | lower, err
}
