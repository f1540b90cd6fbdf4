// SPDX-License-Identifier: GPL-3.0-or-later

package canary

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgproto3"
)

// OIDs that a driver declares for its parameters.
const (
	oidText    = 25
	oidVarchar = 1043
)

const putParams = "SELECT vault.put_secret($1, $2)"

// parameterDoors are those of the extended protocol.
func parameterDoors() []Door {
	unnamed := func(name, sql string, types []uint32, formats []int16) Door {
		return Door{Name: name, open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.params(ctx, sql, types, formats, c.Secret, c.Value())
		}}
	}
	return []Door{
		unnamed("parameter", putParams, nil, nil),
		unnamed("binary parameter", putParams, nil, []int16{1, 1}),
		unnamed("one format for all", putParams, nil, []int16{1}),
		unnamed("declared text", putParams, []uint32{oidText, oidText}, []int16{0, 1}),
		unnamed("declared varchar", putParams, []uint32{oidVarchar, oidVarchar}, nil),
		unnamed("parameter under a cast", "SELECT vault.put_secret($1::VARCHAR, cast($2 as varchar))", nil, nil),
		unnamed("parameters in another order", "INSERT INTO canary_accepts SELECT vault.put_secret(value => $2, name => $1)", nil, nil),
		{Name: "create with a kind parameter", open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.params(ctx, "SELECT vault.create_secret($1, $2, $3)", nil, nil, c.Secret, "manual", c.Value())
		}},
		{Name: "rotate with a parameter", open: func(ctx context.Context, s *Session, c *Canary) error {
			s.first(ctx, "SELECT vault.create_secret($1, 'automatic', rotation_interval => '1 day')", c.Secret)
			return s.params(ctx, "SELECT vault.rotate_secret($1, $2)", nil, nil, c.Secret, c.Value())
		}},
		{Name: "verify with a parameter", Lost: true, open: func(ctx context.Context, s *Session, c *Canary) error {
			s.first(ctx, putParams, c.Secret, "another value")
			return s.params(ctx, "SELECT vault.verify_secret($1, $2)", nil, nil, c.Secret, c.Value())
		}},
		{Name: "literal in an unnamed Parse", open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.params(ctx, put(c, quoted(c.Value())), nil, nil)
		}},
		{Name: "literal beside a parameter", open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.params(ctx, "SELECT vault.put_secret($1, "+quoted(c.Value())+")", nil, nil, c.Secret)
		}},
		{Name: "prepared", open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.prepared(ctx, putParams, 3, c.Secret, c.Value())
		}},
		{Name: "prepared with a literal", open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.prepared(ctx, put(c, "E'"+c.Head+`\t`+c.With("\t").Tail+"'"), 3)
		}},
		{Name: "large parameter", open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.params(ctx, putParams, nil, nil, c.Secret, c.With(random(200<<10)).Value())
		}},
		{Name: "pipelined", open: pipelined},
		{Name: "in a block, by the extended protocol", open: func(ctx context.Context, s *Session, c *Canary) error {
			if err := s.params(ctx, "BEGIN", nil, nil); err != nil {
				return err
			}
			return errors.Join(s.params(ctx, putParams, nil, nil, c.Secret, c.Value()), s.params(ctx, "COMMIT", nil, nil))
		}},
		{Name: "portal with a name", open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.messages(ctx, &pgproto3.Parse{Name: "s", Query: putParams}, &pgproto3.Describe{ObjectType: 'S', Name: "s"},
				&pgproto3.Bind{PreparedStatement: "s", DestinationPortal: "p", Parameters: byteSlices([]string{c.Secret, c.Value()})},
				&pgproto3.Describe{ObjectType: 'P', Name: "p"}, &pgproto3.Execute{Portal: "p", MaxRows: 1},
				&pgproto3.Execute{Portal: "p"}, &pgproto3.Close{ObjectType: 'P', Name: "p"}, &pgproto3.Sync{})
		}},
	}
}

// prepared executes a named statement several times.
func (s *Session) prepared(ctx context.Context, sql string, times int, values ...string) error {
	if _, err := s.Prepare(ctx, "canary", sql, nil); err != nil {
		return err
	}
	for range times {
		if err := s.ExecPrepared(ctx, "canary", byteSlices(values), nil, nil).Read().Err; err != nil {
			return err
		}
	}
	return nil
}

// pipelined sends three puts and statements around them in one batch.
func pipelined(ctx context.Context, s *Session, c *Canary) error {
	batch := extended("SELECT 1")
	batch = append(batch, extended(putParams, c.Secret, c.Value())...)
	batch = append(batch, extended(put(c, quoted(c.Value())))...)
	batch = append(batch, &pgproto3.Bind{ParameterFormatCodes: []int16{1}}, &pgproto3.Execute{})
	batch = append(batch, extended("SELECT 2")...)
	return s.messages(ctx, append(batch, &pgproto3.Sync{})...)
}

// extended are the messages of one statement, without Sync.
func extended(sql string, values ...string) []pgproto3.FrontendMessage {
	return []pgproto3.FrontendMessage{&pgproto3.Parse{Query: sql}, &pgproto3.Bind{Parameters: byteSlices(values)}, &pgproto3.Execute{}}
}

// failingDoors are statements that reach the server and fail there: it logs
// each with its parameters.
func failingDoors() []Door {
	literal := func(name, state string, sql func(put string) string) Door {
		return simple(name, state, func(c *Canary) string {
			return sql("vault.put_secret(" + quoted(c.Secret) + ", " + quoted(c.Value()) + ")")
		})
	}
	param := func(name, state, sql string) Door {
		return Door{Name: name, State: state, open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.params(ctx, sql, nil, nil, c.Secret, c.Value())
		}}
	}
	return []Door{
		literal("division by zero", "22012", func(put string) string { return "SELECT " + put + ", 1 / (random() * 0)::int" }),
		param("division by zero, parameter", "22012", "SELECT vault.put_secret($1, $2), 1 / (random() * 0)::int"),
		literal("unique constraint", "23505", func(put string) string { return "INSERT INTO canary_ones SELECT sign(" + put + ")" }),
		param("unique constraint, parameter", "23505", "INSERT INTO canary_ones SELECT sign(vault.put_secret($1, $2))"),
		literal("check constraint", "23514", func(put string) string { return "INSERT INTO canary_versions VALUES (" + put + ")" }),
		param("check constraint, parameter", "23514", "INSERT INTO canary_versions VALUES (vault.put_secret($1, $2))"),
		literal("trigger that raises", "P0001", func(put string) string { return "INSERT INTO canary_raises VALUES (" + put + ")" }),
		param("trigger that raises, parameter", "P0001", "INSERT INTO canary_raises VALUES (vault.put_secret($1, $2))"),
		literal("no such table", "42P01", func(put string) string { return "SELECT " + put + " FROM canary_nowhere" }),
		silent(param("no such column, parameter", "42703", "SELECT vault.put_secret($1, $2), canary_nothing")),
		literal("wrong type beside it", "42883", func(put string) string { return "SELECT " + put + ", 1 + now()" }),
		literal("per row", "22023", func(put string) string { return "SELECT " + put + " FROM generate_series(1, 3)" }),
		param("per row, parameter", "22023", "SELECT vault.put_secret($1, $2) FROM generate_series(1, 3)"),
		literal("statement timeout", "57014", func(put string) string { return "SET LOCAL statement_timeout = 1; SELECT " + put + ", pg_sleep(10)" }),
		{Name: "name that exists", State: "42710", open: func(ctx context.Context, s *Session, c *Canary) error {
			s.first(ctx, put(c, quoted("first")))
			return s.query(ctx, "SELECT vault.create_secret("+quoted(c.Secret)+", 'manual', "+quoted(c.Value())+")")
		}},
		simple("rotate of what is missing", "P0002", func(c *Canary) string {
			return "SELECT vault.rotate_secret(" + quoted(c.Secret) + ", " + quoted(c.Value()) + ")"
		}),
		as(Stranger, literal("no right", "42501", func(put string) string { return "SELECT " + put })),
		as(Stranger, param("no right, parameter", "42501", putParams)),
		{Name: "statement name in use", State: "42P05", open: func(ctx context.Context, s *Session, c *Canary) error {
			parse := &pgproto3.Parse{Name: "twice", Query: put(c, quoted(c.Value()))}
			return s.messages(ctx, parse, parse, &pgproto3.Sync{})
		}},
		{Name: "wrong number of parameters", State: "08P01", Silent: true, open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.params(ctx, putParams, nil, nil, c.Secret, c.Value(), c.Value())
		}},
		{Name: "failure behind it in a pipeline", State: "22012", open: func(ctx context.Context, s *Session, c *Canary) error {
			batch := append(extended(putParams, c.Secret, c.Value()), extended("SELECT 1/0")...)
			return s.messages(ctx, append(batch, &pgproto3.Sync{})...)
		}},
		{Name: "failure before it in a pipeline", State: "22012", Silent: true, open: func(ctx context.Context, s *Session, c *Canary) error {
			batch := append(extended("SELECT 1/0"), extended(putParams, c.Secret, c.Value())...)
			return s.messages(ctx, append(batch, &pgproto3.Sync{})...)
		}},
		{Name: "in a failed block", State: "25P02", open: func(ctx context.Context, s *Session, c *Canary) error {
			if err := s.query(ctx, "BEGIN"); err != nil {
				return err
			}
			if err := s.query(ctx, "SELECT 1/0"); err == nil {
				return errors.New("a division by zero worked")
			}
			return s.query(ctx, put(c, quoted(c.Value())))
		}},
		as(OnStandby, literal("on a standby", "", func(put string) string { return "SELECT " + put })),
		as(OnStandby, param("on a standby, parameter", "", putParams)),
	}
}

func as(who Login, d Door) Door { d.As = who; return d }

func silent(d Door) Door { d.Silent = true; return d }
