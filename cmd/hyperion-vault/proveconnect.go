// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/cmd/canary"
)

// A login is who goes through doors, and where.
type login struct {
	*pgconn.Config
	implied bool // nobody has named it
}

// A provedServer is one that may be asked as its superuser.
type provedServer struct {
	conninfo string
	name     string
	config   *pgx.ConnConfig
	conn     *pgx.Conn // nil: it cannot be asked
	standby  bool
	// statements is the name of pg_stat_statements, if it is there and can know
	// something. What it names may have changed since: see findStatements.
	statements     string
	walCompression string
}

const proveName = "hyperion-vault prove"

var passwordWord = regexp.MustCompile(`(^|\s)(ssl)?password\s*=`)

// checkConninfo refuses what all who are on this host can read.
func checkConninfo(flag, text string) error {
	u, err := url.Parse(text)
	inURL := false
	if err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") {
		_, inURL = u.User.Password()
		inURL = inURL || u.Query().Has("password") || u.Query().Has("sslpassword")
	}
	if inURL || passwordWord.MatchString(text) {
		return faultf("%s: a password on a command line can be read by everybody on this host: it should be in a password file or a service file", flag)
	}
	return nil
}

func (p *prover) parseLogins() error {
	owner, err := pgconn.ParseConfig("")
	if err != nil {
		return faultf("PG* environment: %s", err)
	}
	p.logins[canary.Owner] = &login{Config: owner}
	for _, text := range p.c.Login {
		kind, conninfo, _ := strings.Cut(text, "=")
		which := canary.Owner
		for l := canary.Stranger; l <= canary.OnStandby; l++ {
			if l.String() == kind {
				which = l
			}
		}
		if which == canary.Owner {
			return faultf("--login: it should be standby=CONNINFO, stranger=…, replication=… or elsewhere=…")
		}
		if err := checkConninfo("--login "+kind, conninfo); err != nil {
			return err
		}
		config, err := pgconn.ParseConfig(conninfo)
		if err != nil {
			return faultf("--login %s: %s", kind, err)
		}
		p.logins[which] = &login{Config: config}
	}
	if p.logins[canary.Elsewhere] == nil && owner.Database != "postgres" {
		elsewhere := owner.Copy()
		elsewhere.Database = "postgres"
		p.logins[canary.Elsewhere] = &login{elsewhere, true}
	}
	for which, l := range p.logins {
		l.ConnectTimeout = 10 * time.Second
		l.RuntimeParams["application_name"] = proveName
		l.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) {}
		if which == canary.Replication {
			l.RuntimeParams["replication"] = "database"
		}
	}
	return nil
}

func (p *prover) parseServers() error {
	for _, conninfo := range p.c.Server {
		if err := checkConninfo("--server", conninfo); err != nil {
			return err
		}
		config, err := pgx.ParseConfig(conninfo)
		if err != nil {
			return faultf("--server: %s", err)
		}
		config.ConnectTimeout = 10 * time.Second
		config.RuntimeParams["application_name"] = proveName
		config.RuntimeParams["search_path"] = "pg_catalog, pg_temp"
		config.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) {}
		p.servers = append(p.servers, &provedServer{conninfo: conninfo, config: config, name: fmt.Sprintf("%s:%d", config.Host, config.Port)})
	}
	return nil
}

// connectServers finds out which are standbys. One that cannot be asked is one that
// was not looked at.
func (p *prover) connectServers(ctx context.Context) error {
	for _, s := range p.servers {
		err := s.connect(ctx, p.c.AsIs)
		if err != nil {
			p.report.notLooked(kindViews, s.name, oneLine(err), true)
			continue
		}
		p.later("the connection to "+s.name, func(ctx context.Context) error { return s.conn.Close(ctx) })
		if s.walCompression == "zstd" {
			p.report.Notes = append(p.report.Notes, s.name+" has wal_compression = zstd: images of whole pages in its WAL cannot be looked into; the pages in its data files can")
		}
	}
	return nil
}

func (s *provedServer) connect(ctx context.Context, asIs bool) error {
	conn, err := pgx.ConnectConfig(ctx, s.config)
	if err != nil {
		return unreached(err)
	}
	var superuser bool
	err = conn.QueryRow(ctx, "SELECT pg_is_in_recovery(), rolsuper, current_setting('wal_compression') FROM pg_roles WHERE rolname = current_user").
		Scan(&s.standby, &superuser, &s.walCompression)
	if err == nil && !superuser {
		err = fmt.Errorf("%q is not a superuser", s.config.User)
	}
	s.conn = conn
	if err == nil {
		err = s.findStatements(ctx, asIs)
	}
	if err != nil {
		s.conn = nil
		return errors.Join(err, conn.Close(ctx))
	}
	return nil
}

// findStatements looks for the extension's own view. The owner of its schema, who need
// not be a superuser, can put another of that name there at any time, which runs what
// he likes as who reads it: so this is asked right before each reading.
func (s *provedServer) findStatements(ctx context.Context, asIs bool) error {
	return s.conn.QueryRow(ctx, `SELECT coalesce((SELECT c.relnamespace::regnamespace || '.pg_stat_statements'
		FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
		JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
		WHERE c.relname = 'pg_stat_statements' AND e.extname = 'pg_stat_statements'
		AND current_setting('pg_stat_statements.track', true) <> (CASE WHEN $1 THEN 'none' ELSE '' END)), '')`, asIs).Scan(&s.statements)
}

// again connects once more if the connection has broken, as it does when what waits
// for an answer is stopped.
func (s *provedServer) again(ctx context.Context) error {
	if !s.conn.IsClosed() {
		return nil
	}
	conn, err := pgx.ConnectConfig(ctx, s.config)
	if err == nil {
		s.conn = conn
	}
	return unreached(err)
}

// primary is the server that takes writes, if it was named.
func (p *prover) primary() *provedServer {
	for _, s := range p.servers {
		if s.conn != nil && !s.standby {
			return s
		}
	}
	return nil
}

func (p *prover) dial(ctx context.Context, which canary.Login) (*canary.Session, error) {
	conn, err := pgconn.ConnectConfig(ctx, p.logins[which].Config)
	switch {
	case err == nil:
		return &canary.Session{PgConn: conn}, nil
	case which == canary.Owner || p.logins[which].implied:
		return nil, unreachedByEnvironment(err)
	}
	return nil, unreached(err)
}

// connectLogins tries each once. The owner must get in.
func (p *prover) connectLogins(ctx context.Context) error {
	for which := canary.Owner; which <= canary.OnStandby; which++ {
		l := p.logins[which]
		if l == nil {
			p.why[which.String()] = "no --login " + which.String() + "=… was named"
			continue
		}
		session, err := p.dial(ctx, which)
		if err == nil {
			err = session.Close(ctx)
		}
		switch {
		case err == nil:
		case which == canary.Owner:
			return fmt.Errorf("the node: %w", err)
		default:
			delete(p.logins, which)
			p.why[which.String()] = oneLine(err)
			if !l.implied {
				p.report.fault("--login %s: %s", which, oneLine(err))
			}
		}
	}
	return nil
}

// settleTimeout bounds how long standbys may be behind.
const settleTimeout = time.Minute

var errLate = errors.New("it has not come in time")

// poll asks until the answer is yes.
func poll(ctx context.Context, timeout time.Duration, ask func() (bool, error)) error {
	deadline := time.Now().Add(timeout)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		if yes, err := ask(); yes || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return errLate
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
