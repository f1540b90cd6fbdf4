// SPDX-License-Identifier: GPL-3.0-or-later

package canary

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// A Door is one way in which a value can be sent to a vault.
type Door struct {
	// Name says what is special about it.
	Name string
	// As is who must be logged in, and where.
	As Login
	// State is the SQLSTATE with which the door answers through a node; empty:
	// the value is taken.
	State string
	// Lost says that a value that was taken is not there afterwards: the door
	// rolls back, or only compares.
	Lost bool
	// Silent says that not even a server that gets the value in clear, and
	// logs all that it can, writes it down.
	Silent bool

	open func(ctx context.Context, s *Session, c *Canary) error
}

// Login is a role and a place.
type Login int

// Logins.
const (
	Owner       Login = iota // may do everything with every secret
	Stranger                 // has no grant
	Elsewhere                // another database of the cluster
	Replication              // a walsender that runs SQL: replication=database
	OnStandby                // the owner, on a standby
)

// A Session is one connection, to a node or to a server itself.
type Session struct {
	*pgconn.PgConn
}

// Open sends the canary and returns what the server, or the node, answered. The
// session may be unusable afterwards.
func (d *Door) Open(ctx context.Context, s *Session, c *Canary) error {
	return d.open(ctx, s, c)
}

// String is the word for it in flags and reports.
func (l Login) String() string {
	return [...]string{"owner", "stranger", "elsewhere", "replication", "standby"}[l]
}

// tables that doors need. They are the session's own, as is all that a door would
// make if nobody refused it: nothing stays.
const tables = `
SET search_path = pg_temp, public;
CREATE TEMP TABLE canary_ones (one int PRIMARY KEY);
CREATE TEMP TABLE canary_versions (version int CHECK (version < 0));
CREATE TEMP TABLE canary_accepts (version int);
INSERT INTO canary_ones VALUES (1);
CREATE FUNCTION pg_temp.canary_raise() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'refused by a trigger' USING errcode = 'P0001'; END $$;
CREATE TEMP TABLE canary_raises (version int);
CREATE TRIGGER canary_raise BEFORE INSERT ON canary_raises FOR EACH ROW EXECUTE FUNCTION pg_temp.canary_raise();`

// Prepare makes what doors need in a session of the owner's.
func Prepare(ctx context.Context, s *Session) error { return s.query(ctx, tables) }

// query runs a text by the simple protocol.
func (s *Session) query(ctx context.Context, sql string) error {
	_, err := s.Exec(ctx, sql).ReadAll()
	return err
}

// State is the SQLSTATE of an error, or its text.
func State(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// Check compares an answer with what the door should give through a node.
func (d *Door) Check(err error) error {
	switch got := State(err); {
	case got == d.State:
		return nil
	case err == nil:
		return fmt.Errorf("door %q: the value was taken, want %s", d.Name, d.State)
	case d.State == "":
		return fmt.Errorf("door %q: %w, want the value taken", d.Name, err)
	}
	return fmt.Errorf("door %q: %w, want %s", d.Name, err, d.State)
}

// quoted writes a plain literal.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// put is the plainest call.
func put(c *Canary, literal string) string {
	return "SELECT vault.put_secret(" + quoted(c.Secret) + ", " + literal + ")"
}

// params runs a text by the extended protocol with the unnamed statement.
func (s *Session) params(ctx context.Context, sql string, types []uint32, formats []int16, values ...string) error {
	return s.ExecParams(ctx, sql, byteSlices(values), types, formats, nil).Read().Err
}

func byteSlices(values []string) [][]byte {
	out := make([][]byte, len(values))
	for i, v := range values {
		out[i] = []byte(v)
	}
	return out
}

// messages sends messages as they are and reads up to ReadyForQuery or the end
// of the session. Its error is the first ErrorResponse.
func (s *Session) messages(ctx context.Context, messages ...pgproto3.FrontendMessage) error {
	for _, m := range messages {
		s.Frontend().Send(m)
	}
	if err := s.Frontend().Flush(); err != nil {
		return err
	}
	var first error
	for {
		m, err := s.ReceiveMessage(ctx)
		if err != nil {
			var e *pgconn.PgError
			if errors.As(err, &e) && first == nil {
				first = err
			}
			return cmp.Or(first, err)
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			if first == nil {
				first = pgconn.ErrorResponseToPgError(m)
			}
		case *pgproto3.ReadyForQuery:
			return first
		}
	}
}
