// SPDX-License-Identifier: GPL-3.0-or-later

package canary

import (
	"context"
	"fmt"
	"strings"
)

// literalDoors are the spellings of a constant, by the simple protocol.
func literalDoors() []Door {
	spellings := []struct {
		name    string
		literal func(c *Canary) string
	}{
		{"literal", func(c *Canary) string { return quoted(c.Value()) }},
		{"literal with doubled quotes", func(c *Canary) string { return quoted(c.With("it's").Value()) }},
		{"literal with a backslash", func(c *Canary) string { return quoted(c.With(`\n\`).Value()) }},
		{"literal over two lines", func(c *Canary) string { return quoted(c.With("\r\n").Value()) }},
		{"literal with other letters", func(c *Canary) string { return quoted(c.With("þorn-鍵-🔑").Value()) }},
		{"E literal", func(c *Canary) string { return "E'" + c.Head + `\n\'\\` + c.With("\n'\\").Tail + "'" }},
		{"e literal with \\x, octal and \\u", func(c *Canary) string {
			return "e'" + c.Head + `\x41\102\u0043\U00000044` + c.With("ABCD").Tail + "'"
		}},
		{"E literal of escapes only", func(c *Canary) string {
			return "E'" + c.Spelled(escape(c.Head, `\x%02x`)) + c.Spelled(escape(c.Tail, `\%03o`)) + "'"
		}},
		{"U& literal", func(c *Canary) string { return "U&'" + c.Head + `\0041\+01F511` + c.With("A🔑").Tail + "'" }},
		{"u& literal of escapes only", func(c *Canary) string {
			return "u&'" + c.Spelled(escape(c.Head, `\%04x`)) + c.Spelled(escape(c.Tail, `\+%06x`)) + "'"
		}},
		{"U& literal with UESCAPE", func(c *Canary) string {
			return "U&'" + c.Head + "!0041!!" + c.With("A!").Tail + "' UESCAPE '!'"
		}},
		{"dollar quotes", func(c *Canary) string { return "$$" + c.With("'").Value() + "$$" }},
		{"dollar quotes with a tag", func(c *Canary) string { return "$tag$" + c.With("$$").Value() + "$tag$" }},
		{"N literal", func(c *Canary) string { return "N" + quoted(c.Value()) }},
		{"literal in two pieces", func(c *Canary) string { return "'" + c.Head + "'\n  '" + c.Tail + "'" }},
		{"type name before", func(c *Canary) string { return "text " + quoted(c.Value()) }},
		{"cast with colons", func(c *Canary) string { return quoted(c.Value()) + "::pg_catalog.text" }},
		{"CAST", func(c *Canary) string { return "CAST(" + quoted(c.Value()) + " AS varchar)" }},
		{"parentheses", func(c *Canary) string { return "((" + quoted(c.Value()) + "))" }},
		{"casts and parentheses", func(c *Canary) string { return "((" + quoted(c.Value()) + ")::varchar)::text" }},
		{"comment before", func(c *Canary) string { return "/* the /* nested */ value */ " + quoted(c.Value()) + " -- its end\n" }},
		{"a large value", func(c *Canary) string { return quoted(c.With(random(100 << 10)).Value()) }},
	}
	doors := make([]Door, 0, len(spellings))
	for _, s := range spellings {
		doors = append(doors, simple(s.name, "", func(c *Canary) string { return put(c, s.literal(c)) }))
	}
	return doors
}

// escape writes each byte of an ASCII text by format.
func escape(text, format string) string {
	var b strings.Builder
	for i := range len(text) {
		fmt.Fprintf(&b, format, text[i])
	}
	return b.String()
}

// simple is a door through which one text goes by the simple protocol.
func simple(name, state string, sql func(c *Canary) string) Door {
	return Door{Name: name, State: state, open: func(ctx context.Context, s *Session, c *Canary) error {
		return s.query(ctx, sql(c))
	}}
}

// callDoors are the spellings of a call, and the places where it may stand, by
// the simple protocol.
func callDoors() []Door {
	name := func(c *Canary) string { return quoted(c.Secret) }
	value := func(c *Canary) string { return quoted(c.Value()) }
	doors := []Door{
		simple("named arguments", "", func(c *Canary) string {
			return "SELECT vault.put_secret(value => " + value(c) + ", name => " + name(c) + ")"
		}),
		simple("named arguments with :=", "", func(c *Canary) string {
			return "SELECT vault.put_secret(name := " + name(c) + ", value := " + value(c) + ", description := 'd')"
		}),
		simple("capitals", "", func(c *Canary) string { return "SELECT VAULT.Put_Secret(" + name(c) + ", " + value(c) + ")" }),
		simple("quoted identifiers", "", func(c *Canary) string {
			return `SELECT "vault" . "put_secret" (` + name(c) + ", " + value(c) + ")"
		}),
		simple("U& identifiers", "", func(c *Canary) string {
			return `SELECT U&"\0076ault".U&"put!005fsecret" UESCAPE '!' (` + name(c) + ", " + value(c) + ")"
		}),
		simple("comments between tokens", "", func(c *Canary) string {
			return "/*a*/ SELECT vault /*b*/ . --c\n put_secret /*d*/ (" + name(c) + " /*e*/, " + value(c) + ") --f"
		}),
		simple("with a description", "", func(c *Canary) string {
			return "SELECT vault.put_secret(" + name(c) + ", " + value(c) + ", 'what it is for')"
		}),
		simple("in a string of statements", "", func(c *Canary) string { return "SELECT 1; " + put(c, value(c)) + "; SELECT 2;" }),
		simple("in a string with a block", "", func(c *Canary) string { return "BEGIN; " + put(c, value(c)) + "; COMMIT" }),
		simple("in a CTE", "", func(c *Canary) string {
			return "WITH p(version) AS (" + put(c, value(c)) + ") INSERT INTO canary_accepts SELECT version FROM p RETURNING version"
		}),
		simple("in an INSERT", "", func(c *Canary) string {
			return "INSERT INTO canary_accepts VALUES (vault.put_secret(" + name(c) + ", " + value(c) + "))"
		}),
		simple("in EXPLAIN ANALYZE", "", func(c *Canary) string { return "EXPLAIN (ANALYZE, VERBOSE) " + put(c, value(c)) }),
		simple("in COPY of a query", "", func(c *Canary) string { return "COPY (" + put(c, value(c)) + ") TO STDOUT" }),
		simple("create", "", func(c *Canary) string {
			return "SELECT vault.create_secret(" + name(c) + ", 'manual', " + value(c) + ")"
		}),
		simple("create with named arguments", "", func(c *Canary) string {
			return "SELECT vault.create_secret(kind => 'automatic', value => " + value(c) + ", rotation_interval => '1 day', name => " + name(c) + ")"
		}),
		{Name: "rotate", open: func(ctx context.Context, s *Session, c *Canary) error {
			s.first(ctx, "SELECT vault.create_secret("+name(c)+", 'automatic', rotation_interval => '1 day')")
			return s.query(ctx, "SELECT vault.rotate_secret("+name(c)+", "+value(c)+")")
		}},
		{Name: "in a block", open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.each(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ", put(c, value(c)), "COMMIT")
		}},
		{Name: "in a block that is rolled back", Lost: true, open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.each(ctx, "BEGIN", "SAVEPOINT s", put(c, value(c)), "ROLLBACK TO s", put(c, value(c)), "ROLLBACK")
		}},
		{Name: "without standard_conforming_strings", open: func(ctx context.Context, s *Session, c *Canary) error {
			return s.each(ctx, "SET standard_conforming_strings = off", put(c, "'"+c.Head+`\\`+c.With(`\`).Tail+"'"))
		}},
		{Name: "verify", Lost: true, open: func(ctx context.Context, s *Session, c *Canary) error {
			s.first(ctx, put(c, quoted("another value")))
			return s.query(ctx, "SELECT vault.verify_secret("+name(c)+", "+value(c)+")")
		}},
	}
	return doors
}

// first runs what must come before a door opens. If it fails, as it does where
// nothing seals, the door's own answer shows it.
func (s *Session) first(ctx context.Context, sql string, values ...string) {
	_ = s.params(ctx, sql, nil, nil, values...)
}

// each runs one text after the other, up to the first that fails.
func (s *Session) each(ctx context.Context, texts ...string) error {
	for _, sql := range texts {
		if err := s.query(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}
