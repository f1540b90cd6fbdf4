// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package doors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// A session is one login that doors use one after the other.
type session struct {
	conn  *rawpg.Conn
	state byte // of the last ReadyForQuery
}

// errEnded means that the connection was closed.
var errEnded = errors.New("the session has ended")

// send sends messages of which the last one is answered by ReadyForQuery, and
// returns the first error, nil if there is none.
func (s *session) send(msgs ...pgproto3.FrontendMessage) (*pgproto3.ErrorResponse, error) {
	if err := s.conn.Send(msgs...); err != nil {
		return nil, fmt.Errorf("%w: %w", errEnded, err)
	}
	var first *pgproto3.ErrorResponse
	for {
		m, err := s.conn.Receive()
		switch {
		case errors.Is(err, io.EOF):
			return first, errEnded
		case err != nil:
			return first, err
		case m.Type == 'E' && first == nil:
			first = s.conn.Err
		case m.Type == 'G': // a COPY that nobody feeds
			if err := s.conn.Send(&pgproto3.CopyFail{Message: "no data"}); err != nil {
				return first, err
			}
		case m.Type == 'Z':
			s.state = m.Body[0]
			return first, nil
		}
	}
}

func (s *session) query(text string) (*pgproto3.ErrorResponse, error) {
	return s.send(&pgproto3.Query{String: text})
}

// A pool keeps sessions by who logged in, and where.
type pool struct {
	c        *cluster.Cluster
	sessions map[string]*session
	made     int
}

func (p *pool) get(ctx context.Context, set setting, database string) (*session, error) {
	k := set.user + "\x00" + set.options + "\x00" + database
	if s := p.sessions[k]; s != nil {
		delete(p.sessions, k)
		return s, nil
	}
	user := set.user
	if user == "" {
		user = p.c.User
	}
	dsn := strings.Replace(p.c.DSN(0, user), "dbname="+p.c.Database, "dbname="+database, 1)
	if set.options != "" {
		dsn += " options='" + set.options + "'"
	}
	conn, err := rawpg.Dial(ctx, dsn)
	if err != nil {
		return nil, err
	}
	p.made++
	return &session{conn: conn, state: 'I'}, nil
}

// put gives a session back, as new: what cannot be made so is closed.
func (p *pool) put(s *session, set setting, database string) error {
	if s.state != 'I' {
		if _, err := s.query("ROLLBACK"); err != nil {
			return err
		}
	}
	if e, err := s.query("DISCARD ALL"); e != nil || err != nil {
		return fmt.Errorf("the session cannot go on: %+v, %w", e, err)
	}
	k := set.user + "\x00" + set.options + "\x00" + database
	if p.sessions[k] != nil {
		return s.conn.Close()
	}
	p.sessions[k] = s
	return nil
}

func (p *pool) close() {
	for _, s := range p.sessions {
		_ = s.conn.Close() // nothing is owed
	}
}
