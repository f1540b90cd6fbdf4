// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/cmd/canary"
)

// logging is all that a server can write down of what a role sends: of the forms of a
// tree the first, which the others repeat. What belongs to a library is set where that
// is loaded.
var logging = [][2]string{
	{"log_statement", "all"},
	{"log_min_duration_statement", "0"},
	{"log_duration", "on"},
	{"log_parameter_max_length", "-1"},
	{"log_parameter_max_length_on_error", "-1"},
	{"log_error_verbosity", "verbose"},
	{"log_min_error_statement", "debug5"},
	{"log_min_messages", "debug1"},
	{"debug_print_parse", "on"},
	{"track_activities", "on"},
	{"auto_explain.log_min_duration", "0"},
	{"auto_explain.log_analyze", "on"},
	{"auto_explain.log_verbose", "on"},
	{"auto_explain.log_nested_statements", "on"},
	{"auto_explain.log_triggers", "on"},
	{"pg_stat_statements.track", "all"},
	{"pg_stat_statements.track_utility", "on"},
}

// logAll has the roles that go through doors log everything, in the databases to
// which they do.
func (p *prover) logAll(ctx context.Context) error {
	primary := p.primary()
	if primary == nil || p.c.AsIs {
		p.report.Logging = "as the servers have it"
		return nil
	}
	settings, err := primary.known(ctx)
	if err != nil {
		return err
	}
	done := map[[2]string]bool{}
	for which, l := range p.logins {
		key := [2]string{l.User, l.Database}
		if which == canary.Replication || done[key] { // a superuser's role is used by others
			continue
		}
		done[key] = true
		where := fmt.Sprintf("ALTER ROLE %s IN DATABASE %s ", pgx.Identifier{l.User}.Sanitize(), pgx.Identifier{l.Database}.Sanitize())
		restore, err := primary.restoring(ctx, where, l, settings)
		if err != nil {
			return err
		}
		p.later("the logging of role "+l.User+" in database "+l.Database, func(ctx context.Context) error { return primary.apply(ctx, restore) })
		var set []string
		for _, s := range settings {
			set = append(set, where+"SET "+s[0]+" = '"+s[1]+"'")
		}
		if err := primary.apply(ctx, set); err != nil {
			return fmt.Errorf("%s: the logging cannot be set (--as-is leaves it): %w", primary.name, err)
		}
		p.report.Settings = append(p.report.Settings, where+"SET …")
	}
	slices.Sort(p.report.Settings)
	p.report.Logging = "everything, of the roles that went through the doors"
	for which := range p.logins {
		if which != canary.Replication {
			if err := p.awaitLogging(ctx, which); err != nil {
				return err
			}
		}
	}
	return nil
}

// known are the settings that this server has.
func (s *provedServer) known(ctx context.Context) ([][2]string, error) {
	var known [][2]string
	for _, setting := range logging {
		var there bool
		if err := s.conn.QueryRow(ctx, "SELECT current_setting($1, true) IS NOT NULL", setting[0]).Scan(&there); err != nil {
			return nil, err
		}
		if there {
			known = append(known, setting)
		}
	}
	return known, nil
}

// restoring are the statements that bring a role's settings back to what they are.
func (s *provedServer) restoring(ctx context.Context, where string, l *login, settings [][2]string) ([]string, error) {
	var now []string
	err := s.conn.QueryRow(ctx, `SELECT coalesce((SELECT setconfig FROM pg_db_role_setting WHERE setrole = (SELECT oid FROM pg_roles WHERE rolname = $1)
		AND setdatabase = (SELECT oid FROM pg_database WHERE datname = $2)), '{}')`, l.User, l.Database).Scan(&now)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(settings, func(s [2]string) bool { return !slices.Contains(now, s[0]+"="+s[1]) }) { // to be brought back by another run
		return nil, fmt.Errorf("role %s logs everything in database %s already, as during a run: wait for that one's end; if it was killed, %sRESET ALL", l.User, l.Database, where)
	}
	var statements []string
	for _, setting := range settings {
		statement := where + "RESET " + setting[0]
		for _, line := range now {
			if name, value, _ := strings.Cut(line, "="); name == setting[0] {
				statement = where + "SET " + name + " = '" + strings.ReplaceAll(value, "'", "''") + "'"
			}
		}
		statements = append(statements, statement)
	}
	return statements, nil
}

// apply runs statements, all or none.
func (s *provedServer) apply(ctx context.Context, statements []string) error {
	if err := s.again(ctx); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, s.conn, func(tx pgx.Tx) error {
		for _, statement := range statements {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

// awaitLogging returns when a session of the role's logs everything: on a standby
// that is a little later.
func (p *prover) awaitLogging(ctx context.Context, which canary.Login) error {
	return poll(ctx, settleTimeout, func() (bool, error) {
		session, err := p.dial(ctx, which)
		if err != nil {
			return false, err
		}
		defer func() { _ = session.Close(ctx) }() // its result was read
		results, err := session.Exec(ctx, "SHOW log_statement").ReadAll()
		if err != nil {
			return false, err
		}
		return string(results[0].Rows[0][0]) == "all", nil
	})
}
