// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// A server is one of the cluster's, as the operator sees it.
type server struct {
	name string
	conn *pgx.Conn // nil: it cannot be reached

	fault        string // why it cannot follow; empty: it can
	major        int    // PostgreSQL's; 0: not known
	version      string
	files        string // version of the extension's files; empty: it has none
	standby      bool
	strongLogins bool // hyperion_vault.proxy_login = all
}

// pkg is the Debian package that has the extension for it.
func (s *server) pkg() string { return fmt.Sprintf("postgresql-%d-hyperion-vault", s.major) }

// survey asks each server what it is, and finds the primary. If anything is wrong
// anywhere, the error is a table of all, before anything is changed.
func survey(ctx context.Context, servers []*server) (*server, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var primaries []*server
	faults := 0
	for _, s := range servers {
		if s.conn != nil {
			s.ask(ctx)
		}
		switch {
		case s.fault != "":
			faults++
		case !s.standby:
			primaries = append(primaries, s)
		}
	}
	switch {
	case faults > 0:
		return nil, refusal(servers)
	case len(primaries) == 0:
		return nil, errors.New("every server named is a standby: name the primary too (--hosts)")
	case len(primaries) > 1:
		return nil, fmt.Errorf("%s and %s are both primaries: are they one cluster?", primaries[0].name, primaries[1].name)
	}
	return primaries[0], nil
}

// ask fills in what the server says. It loads the library into this one session: what
// is on the list of extensions may lack it.
func (s *server) ask(ctx context.Context) {
	var superuser bool
	err := s.conn.QueryRow(ctx, `SELECT pg_catalog.current_setting('server_version_num')::int / 10000, pg_catalog.current_setting('server_version'),
		pg_catalog.pg_is_in_recovery(), (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user),
		coalesce((SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'hyperion_vault'), '')`).
		Scan(&s.major, &s.version, &s.standby, &superuser, &s.files)
	switch {
	case err != nil:
		s.fault = connectFault(err)
		return
	case !superuser:
		s.fault = fmt.Sprintf("%q is not a superuser: the extension, its rights and its settings need one", s.conn.Config().User)
		return
	case s.files == "":
		s.fault = "install " + s.pkg() + " on this host (or make install-extension)"
		return
	}
	if _, err := s.conn.Exec(ctx, "LOAD 'hyperion_vault'"); err != nil {
		s.fault = fmt.Sprintf("install %s on this host anew: %s", s.pkg(), connectFault(err))
		return
	}
	var logins string
	if err := s.conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('hyperion_vault.proxy_login')").Scan(&logins); err != nil {
		s.fault = connectFault(err)
	}
	s.strongLogins = logins == "all"
}

// refusal shows all servers, those that can follow too.
func refusal(servers []*server) error {
	var b strings.Builder
	b.WriteString("nothing was changed: not every server can follow\n")
	t := newTable(&b)
	t.line("HOST", "POSTGRESQL", "EXTENSION FILES", "WHAT TO DO")
	for _, s := range servers {
		todo := s.fault
		if todo == "" {
			todo = "nothing"
		}
		version, _, _ := strings.Cut(s.version, " ") // who has packaged it does not matter
		t.line(s.name, orDash(version), orDash(s.files), todo)
	}
	if err := t.end(); err != nil {
		return err
	}
	return errors.New(strings.TrimRight(b.String(), "\n"))
}
