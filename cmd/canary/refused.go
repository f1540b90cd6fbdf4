// SPDX-License-Identifier: GPL-3.0-or-later

package canary

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// refusedDoors are mistakes, and texts that a node cannot seal: it must answer
// them itself, because the server would log them.
func refusedDoors() []Door {
	// text holds %name and %value, literals both.
	text := func(name, state, text string) Door {
		return simple(name, state, func(c *Canary) string {
			return strings.NewReplacer("%name", quoted(c.Secret), "%value", quoted(c.Value()), "%bare", c.Value()).Replace(text)
		})
	}
	return []Door{
		text("function misspelt", "42883", "SELECT vault.putsecret(%name, %value)"),
		text("function that supabase has", "42883", "SELECT vault._crypto_aead_det_encrypt(%value, %name)"),
		text("too few arguments", "42883", "SELECT vault.put_secret(%value)"),
		text("too many arguments", "42883", "SELECT vault.put_secret(%name, %value, 'd', 'e')"),
		text("unknown argument name", "42883", "SELECT vault.put_secret(name => %name, secret => %value)"),
		text("supabase's create", "22023", "SELECT vault.create_secret(%value, %name)"),
		text("supabase's create with a description", "22023", "SELECT vault.create_secret(%value, %name, 'what it is for')"),
		text("supabase's named create", "42883", "SELECT vault.create_secret(new_secret => %value, new_name => %name)"),
		{Name: "supabase's create with parameters", State: "22023", open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.params(ctx, "SELECT vault.create_secret($1, $2)", nil, nil, c.Value(), c.Secret)
		}},
		text("supabase's update", "0A000", "SELECT vault.update_secret('7095d222-efe5-4cd5-b5c6-5755b451e223', %value)"),
		text("misspelt schema of a known function", "0A000", "SET search_path = vault; SELECT put_secret(%name, %value)"),
		{Name: "unqualified, through search_path", State: "0A000", open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.each(ctx, "SET search_path = vault, public", "SELECT put_secret("+quoted(c.Secret)+", "+quoted(c.Value())+")")
		}},
		text("syntax error behind", "42601", "SELECT vault.put_secret(%name, %value) FRMO WHERE"),
		text("syntax error at the value", "42601", "SELECT vault.put_secret(%name, , %value %value)"),
		text("quote that does not end", "42601", "SELECT vault.put_secret(%name, '%bare)"),
		text("dollar quote that does not end", "42601", "SELECT vault.put_secret(%name, $a$%bare$b$)"),
		text("comment that does not end", "42601", "SELECT vault.put_secret(%name, %value) /* "),
		text("bit string", "0A000", "SELECT vault.put_secret(%name, B'%bare')"),
		text("bad escape", "22025", `SELECT vault.put_secret(%name, E'%bare\u00zz')`),
		text("concatenation", "0A000", "SELECT vault.put_secret(%name, %value || 'x')"),
		text("value of a function", "0A000", "SELECT vault.put_secret(%name, concat(%value))"),
		text("value of a column", "0A000", "SELECT vault.put_secret(%name, v) FROM (VALUES (%value)) AS t(v)"),
		text("value of a sub-select", "0A000", "SELECT vault.put_secret(%name, (SELECT %value))"),
		text("name of a function", "0A000", "SELECT vault.put_secret(concat(%name), %value)"),
		text("cast to another type", "0A000", "SELECT vault.put_secret(%name, %value::bytea::text)"),
		text("cast with a length", "0A000", "SELECT vault.put_secret(%name, %value::varchar(5))"),
		text("VARIADIC", "42883", "SELECT vault.put_secret(%name, VARIADIC ARRAY[%value])"),
		text("bad name", "22023", "SELECT vault.put_secret('//', %value)"),
		text("DO", "0A000", "DO $do$ BEGIN PERFORM vault.put_secret(%name, %value); END $do$"),
		text("DO with EXECUTE", "0A000", "DO $do$ BEGIN EXECUTE 'SELECT vault.put_secret($1, $2)' USING %name, %value; END $do$"),
		text("function body", "0A000", "CREATE FUNCTION canary_body() RETURNS int LANGUAGE sql AS $body$ SELECT vault.put_secret(%name, %value) $body$"),
		text("function body without quotes", "0A000", "CREATE FUNCTION canary_body() RETURNS int LANGUAGE sql RETURN vault.put_secret(%name, %value)"),
		text("procedure body", "0A000", "CREATE PROCEDURE canary_body() LANGUAGE plpgsql AS $body$ BEGIN PERFORM vault.put_secret(%name, %value); END $body$"),
		text("PREPARE", "0A000", "PREPARE canary_put AS SELECT vault.put_secret(%name, %value)"),
		text("PREPARE and EXECUTE", "0A000", "PREPARE canary_put(text, text) AS SELECT vault.put_secret($1, $2); EXECUTE canary_put(%name, %value)"),
		text("DECLARE", "0A000", "BEGIN; DECLARE c CURSOR FOR SELECT vault.put_secret(%name, %value); FETCH c; COMMIT"),
		text("view", "0A000", "CREATE VIEW canary_view AS SELECT vault.put_secret(%name, %value)"),
		text("default", "0A000", "CREATE TABLE canary_default (v int DEFAULT vault.put_secret(%name, %value))"),
		text("rule", "0A000", "CREATE RULE canary_rule AS ON INSERT TO canary_accepts DO ALSO SELECT vault.put_secret(%name, %value)"),
		text("policy", "0A000", "CREATE POLICY canary_policy ON canary_accepts USING (vault.put_secret(%name, %value) > 0)"),
		text("behind SET ROLE in one string", "0A000", "SET ROLE NONE; SELECT vault.put_secret(%name, %value)"),
		text("behind COMMIT in one string", "0A000", "BEGIN; COMMIT; SELECT vault.put_secret(%name, %value)"),
		text("too many terms", "54001", "SELECT vault.put_secret(%name, %value), 1"+strings.Repeat("+1", 25000)),
		text("too deep", "54001", "SELECT vault.put_secret(%name, "+strings.Repeat("(", 2000)+"%value"+strings.Repeat(")", 2000)+")"),
		{Name: "value too long", State: "22023", open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.query(ctx, put(c, quoted(c.With(random(600<<10)).Value())))
		}},
		{Name: "parameter too long", State: "22023", open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.params(ctx, putParams, nil, nil, c.Secret, c.With(random(600<<10)).Value())
		}},
		{Name: "not UTF-8", State: "22021", Silent: true, open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.query(ctx, put(c, quoted(c.With("\xff\xfe").Value())))
		}},
		{Name: "parameter that is not UTF-8", State: "22021", Silent: true, open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.params(ctx, putParams, nil, nil, c.Secret, c.With("\xff\xfe").Value())
		}},
		{Name: "zero byte", State: "22021", Silent: true, open: func(ctx context.Context, s *Session, c *Canary) error {
			sql := put(c, quoted(c.With("\x00").Value()))
			raw := append([]byte(sql), 0)
			return s.raw(ctx, 'Q', raw)
		}},
		{Name: "parameter used twice", State: "0A000", open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.params(ctx, "SELECT vault.put_secret($1, $2), length($2)", nil, nil, c.Secret, c.Value())
		}},
		{Name: "parameter in an expression", State: "0A000", open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.params(ctx, "SELECT vault.put_secret($1, $2 || 'x')", nil, nil, c.Secret, c.Value())
		}},
		{Name: "parameter declared as json", State: "0A000", Silent: true, open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.params(ctx, putParams, []uint32{oidText, 114}, nil, c.Secret, `"`+c.Value()+`"`)
		}},
		{Name: "EXECUTE of a statement of the protocol", State: "0A000", open: func(ctx context.Context, s *Session, c *Canary) error {
			if _, err := s.Prepare(ctx, "canary", putParams, nil); err != nil {
				return err
			}
			return s.query(ctx, "EXECUTE canary("+quoted(c.Secret)+", "+quoted(c.Value())+")")
		}},
		{Name: "another client_encoding", State: "0A000", open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.each(ctx, "SET client_encoding = SJIS", put(c, quoted(c.Value())))
		}},
		{Name: "client_encoding changed in the batch", State: "0A000", open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.messages(ctx, &pgproto3.Parse{Query: "SET client_encoding = SJIS"}, &pgproto3.Bind{}, &pgproto3.Execute{},
				&pgproto3.Parse{Query: put(c, "E'"+c.Head+`\\`+c.With(`\`).Tail+"'")}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{})
		}},
		{Name: "fast-path call", State: "0A000", Silent: true, open: fastPath},
		as(Elsewhere, text("another database", "3F000", "SELECT vault.put_secret(%name, %value)")),
		as(Elsewhere, Door{Name: "another database, parameter", State: "3F000", Silent: true, open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.params(ctx, putParams, nil, nil, c.Secret, c.Value())
		}}),
		as(Replication, text("walsender", "0A000", "SELECT vault.put_secret(%name, %value)")),
	}
}

// fastPath calls the function by its OID, as old large-object code does.
func fastPath(ctx context.Context, s *Session, c *Canary) error {
	results, err := s.Exec(ctx, "SELECT oid FROM pg_proc WHERE pronamespace = 'vault'::regnamespace AND proname = 'put_secret'").ReadAll()
	if err != nil {
		return err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return errors.New("the function is not there")
	}
	var oid uint32
	for _, digit := range results[0].Rows[0][0] {
		oid = 10*oid + uint32(digit-'0')
	}
	return s.messages(ctx, &pgproto3.FunctionCall{Function: oid, Arguments: [][]byte{[]byte(c.Secret), []byte(c.Value()), []byte("d")}})
}

// raw sends one message that no encoder would make.
func (s *Session) raw(ctx context.Context, kind byte, body []byte) error {
	message := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)) //nolint:gosec // a short text
	if _, err := s.Conn().Write(append(message, body...)); err != nil {
		return err
	}
	return s.messages(ctx)
}

// Doors are all of them, each with a name of its own.
func Doors() []Door {
	var all []Door
	for _, some := range [][]Door{literalDoors(), callDoors(), parameterDoors(), failingDoors(), refusedDoors()} {
		all = append(all, some...)
	}
	return all
}
