// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package doors

// A shape is a statement with a hole for a call: %c. %w is the worker's number,
// which keeps the tables of concurrent doors apart; %q is the call inside a
// plain literal, %e in one with escapes.
type shape struct {
	name, text string
	// what becomes of the text at the server.
	does does
	// noParams: the server lets the statement use no parameters.
	noParams bool
	// many: several statements in one text.
	many bool
	// once: it cannot run twice in a session.
	once bool
	// lost: the call is not evaluated, or its effect does not stay.
	lost bool
	// before is a statement that the session runs first.
	before string
	// states are SQLSTATEs of the server's own, which gets the sealed text.
	states []string
}

// does says what a server does with the text of a statement.
type does int

const (
	runs  does = iota // evaluates it now, and keeps nothing
	keeps             // keeps it for later
	code              // runs a string in it as code
)

// tables that shapes need, for each worker.
const tables = `
CREATE TABLE ones_%w (one int PRIMARY KEY, v int);
INSERT INTO ones_%w VALUES (1);
CREATE TABLE many_%w (v int);
CREATE VIEW ruled_%w AS SELECT v FROM many_%w;
CREATE RULE ruled AS ON INSERT TO ruled_%w DO INSTEAD INSERT INTO many_%w VALUES (NEW.v);
CREATE PROCEDURE taken_%w(v int) LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE DOMAIN number_%w AS int CHECK (VALUE > 0);
CREATE DOMAIN word_%w AS text;
CREATE FUNCTION takes_%w(v int, w int DEFAULT 2) RETURNS int LANGUAGE sql AS 'SELECT v + w';
CREATE FUNCTION off_%w() RETURNS text LANGUAGE sql AS $$ SELECT set_config('standard_conforming_strings', 'off', false) $$;
CREATE FUNCTION latin_%w() RETURNS text LANGUAGE sql AS $$ SELECT set_config('client_encoding', 'LATIN1', false) $$;
CREATE FUNCTION fires_%w() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
`

// now are shapes that run at once: the call is sealed.
var now = []shape{
	{name: "select", text: "SELECT %c"},
	{name: "alias", text: "SELECT %c AS \"vault.put_secret\""},
	{name: "expression", text: "SELECT 1 + (%c) * 2"},
	{name: "cte", text: "WITH w AS (SELECT %c AS v) SELECT v FROM w"},
	{name: "cte materialized", text: "WITH w(v) AS MATERIALIZED (SELECT %c) SELECT v FROM w"},
	{name: "writing cte", text: "WITH w AS (INSERT INTO many_%w VALUES (%c) RETURNING v) SELECT v FROM w"},
	{name: "subselect", text: "SELECT (SELECT %c)"},
	{name: "from subselect", text: "SELECT v FROM (SELECT %c AS v OFFSET 0) s"},
	{name: "lateral", text: "SELECT v FROM (SELECT 1) AS one(o), LATERAL (SELECT %c AS v) s"},
	{name: "function in from", text: "SELECT * FROM %c AS f"},
	{name: "rows from", text: "SELECT * FROM ROWS FROM (%c) WITH ORDINALITY"},
	{name: "values", text: "VALUES (%c)"},
	{name: "values in from", text: "SELECT v FROM (VALUES (%c)) AS x(v)"},
	{name: "where", text: "SELECT 1 WHERE %c > 0"},
	{name: "case", text: "SELECT CASE WHEN true THEN %c END"},
	{name: "coalesce", text: "SELECT coalesce(NULL, %c)"},
	{name: "array", text: "SELECT ARRAY[%c, 1]"},
	{name: "record", text: "SELECT ROW(%c, 1)"},
	{name: "whole row", text: "SELECT s FROM (SELECT %c AS v OFFSET 0) s"},
	{name: "json", text: "SELECT json_build_object('v', %c)"},
	{name: "json of a row", text: "SELECT to_jsonb(s) FROM (SELECT %c AS v OFFSET 0) s"},
	{name: "union", text: "SELECT %c UNION ALL SELECT 0"},
	{name: "aggregate", text: "SELECT sum(v) FROM (SELECT %c AS v OFFSET 0) s"},
	{name: "distinct", text: "SELECT DISTINCT %c"},
	{name: "limit", text: "SELECT 1 LIMIT %c"},
	{name: "argument", text: "SELECT takes_%w(%c)"},
	{name: "named argument", text: "SELECT takes_%w(w => 1, v => %c)"},
	{name: "argument of a set", text: "SELECT generate_series(1, %c)"},
	{name: "operator by name", text: "SELECT %c OPERATOR(pg_catalog.+) 1"},
	{name: "domain", text: "SELECT coalesce(%c, 1)::number_%w"},
	{name: "insert", text: "INSERT INTO many_%w VALUES (%c)"},
	{name: "insert select", text: "INSERT INTO many_%w SELECT %c"},
	{name: "insert returning", text: "INSERT INTO many_%w VALUES (1) RETURNING v, %c"},
	{name: "insert into a view with a rule", text: "INSERT INTO ruled_%w VALUES (%c)"},
	{name: "on conflict", text: "INSERT INTO ones_%w VALUES (1) ON CONFLICT (one) DO UPDATE SET v = %c"},
	{name: "on conflict do nothing", text: "INSERT INTO ones_%w VALUES (1) ON CONFLICT DO NOTHING RETURNING %c", lost: true},
	{name: "update", text: "UPDATE ones_%w SET v = %c WHERE one = 1"},
	{name: "update returning", text: "UPDATE ones_%w SET v = 1 RETURNING %c"},
	{name: "delete", text: "DELETE FROM ones_%w WHERE %c < 0"},
	{name: "merge", text: "MERGE INTO ones_%w USING (SELECT 1 AS k) s ON one = k WHEN MATCHED THEN UPDATE SET v = %c"},
	{name: "explain", text: "EXPLAIN SELECT %c", lost: true},
	{name: "explain verbose", text: "EXPLAIN (VERBOSE, FORMAT json) SELECT %c", lost: true},
	{name: "explain analyze", text: "EXPLAIN ANALYZE SELECT %c"},
	{name: "explain analyze insert", text: "EXPLAIN (ANALYZE, VERBOSE) INSERT INTO many_%w VALUES (%c)"},
	{name: "create table as", text: "CREATE TEMP TABLE made AS SELECT %c AS v", once: true},
	{name: "select into", text: "SELECT %c AS v INTO TEMP made", once: true},
	{name: "copy to stdout", text: "COPY (SELECT %c) TO STDOUT", noParams: true},
	{name: "copy to program", text: "COPY (SELECT %c) TO PROGRAM 'cat > /dev/null'", noParams: true},
	{name: "call", text: "CALL taken_%w(%c)"},
	{name: "execute", text: "EXECUTE plain(%c)", noParams: true, before: "PREPARE plain(int) AS SELECT $1"},
	{name: "create table as execute", text: "CREATE TEMP TABLE made AS EXECUTE plain(%c)", noParams: true, once: true, before: "PREPARE plain(int) AS SELECT $1 AS v"},
	{name: "behind a statement", text: "SELECT 1; SELECT %c", many: true},
	{name: "in a block in one text", text: "BEGIN; SELECT %c; COMMIT", many: true},
	{name: "text argument", text: "SELECT length((%c)::text)"},
	{name: "comments around", text: "/* a /* b */ ' */ SELECT -- it's\n %c /* $$ */ -- end"},
	{name: "other strings around", text: `SELECT 'a', %c, $$b$$, E'c', "v" FROM (SELECT 1 AS "v") s`},
	{name: "division by zero", text: "SELECT %c, 1 / (random() * 0)::int", lost: true, states: []string{"22012"}},
	{name: "no such table", text: "SELECT %c FROM nowhere", lost: true, states: []string{"42P01"}},
}

// refused are shapes whose text the server would keep, or run as code.
var refused = []shape{
	{name: "prepare", does: keeps, text: "PREPARE kept AS SELECT %c"},
	{name: "prepare with types", does: keeps, text: "PREPARE kept(text, int) AS SELECT %c"},
	{name: "prepare insert", does: keeps, text: "PREPARE kept AS INSERT INTO many_%w VALUES (%c)"},
	{name: "declare", does: keeps, many: true, text: "BEGIN; DECLARE kept CURSOR FOR SELECT %c; COMMIT"},
	{name: "declare with hold", does: keeps, text: "DECLARE kept CURSOR WITH HOLD FOR SELECT %c"},
	{name: "view", does: keeps, text: "CREATE VIEW kept_%w AS SELECT %c AS v"},
	{name: "temp view", does: keeps, text: "CREATE OR REPLACE TEMP VIEW kept_%w AS SELECT %c AS v"},
	{name: "materialized view", does: keeps, text: "CREATE MATERIALIZED VIEW kept_%w AS SELECT %c AS v"},
	{name: "explain materialized view", does: keeps, text: "EXPLAIN ANALYZE CREATE MATERIALIZED VIEW kept_%w AS SELECT %c AS v"},
	{name: "rule", does: keeps, text: "CREATE RULE kept AS ON INSERT TO many_%w DO ALSO SELECT %c"},
	{name: "default", does: keeps, text: "CREATE TABLE kept_%w (v int DEFAULT %c)"},
	{name: "generated column", does: keeps, text: "CREATE TABLE kept_%w (v int GENERATED ALWAYS AS (%c) STORED)"},
	{name: "check", does: keeps, text: "CREATE TABLE kept_%w (v int CHECK (v > %c))"},
	{name: "default of a new column", does: keeps, text: "ALTER TABLE many_%w ADD COLUMN k int DEFAULT %c"},
	{name: "set default", does: keeps, text: "ALTER TABLE many_%w ALTER COLUMN v SET DEFAULT %c"},
	{name: "alter type using", does: keeps, text: "ALTER TABLE many_%w ALTER COLUMN v TYPE int USING %c"},
	{name: "add constraint", does: keeps, text: "ALTER TABLE many_%w ADD CHECK (v > %c)"},
	{name: "policy", does: keeps, text: "CREATE POLICY kept ON many_%w USING (v > %c)"},
	{name: "policy with check", does: keeps, text: "CREATE POLICY kept ON many_%w FOR INSERT WITH CHECK (v > %c)"},
	{name: "index", does: keeps, text: "CREATE INDEX ON many_%w ((v + %c))"},
	{name: "index where", does: keeps, text: "CREATE INDEX ON many_%w (v) WHERE v > %c"},
	{name: "trigger when", does: keeps, text: "CREATE TRIGGER kept BEFORE INSERT ON many_%w FOR EACH ROW WHEN (NEW.v > %c) EXECUTE FUNCTION fires_%w()"},
	{name: "domain default", does: keeps, text: "CREATE DOMAIN kept_%w AS int DEFAULT %c"},
	{name: "domain check", does: keeps, text: "CREATE DOMAIN kept_%w AS int CHECK (VALUE > %c)"},
	{name: "alter domain", does: keeps, text: "ALTER DOMAIN number_%w SET DEFAULT %c"},
	{name: "partition bound", does: keeps, text: "CREATE TABLE kept_%w PARTITION OF many_%w FOR VALUES IN (%c)"},
	{name: "statistics", does: keeps, text: "CREATE STATISTICS kept_%w ON (v + %c) FROM many_%w"},
	{name: "publication", does: keeps, text: "CREATE PUBLICATION kept FOR TABLE many_%w WHERE (v > %c)"},
	{name: "schema with a view", does: keeps, text: "CREATE SCHEMA kept_%w CREATE VIEW v AS SELECT %c AS v"},
	{name: "argument default", does: keeps, text: "CREATE FUNCTION kept_%w(v int DEFAULT %c) RETURNS int LANGUAGE sql AS 'SELECT v'"},
	{name: "function return", does: keeps, text: "CREATE FUNCTION kept_%w() RETURNS int LANGUAGE sql RETURN %c"},
	{name: "function begin atomic", does: keeps, text: "CREATE FUNCTION kept_%w() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT %c; END"},
	{name: "procedure begin atomic", does: keeps, text: "CREATE PROCEDURE kept_%w() LANGUAGE sql BEGIN ATOMIC INSERT INTO many_%w VALUES (%c); END"},
	{name: "function body", does: code, text: "CREATE FUNCTION kept_%w() RETURNS int LANGUAGE sql AS $body$ SELECT %c $body$"},
	{name: "function body in quotes", does: code, text: "CREATE FUNCTION kept_%w() RETURNS int LANGUAGE sql AS %q"},
	{name: "plpgsql body", does: code, text: "CREATE OR REPLACE FUNCTION kept_%w() RETURNS int LANGUAGE plpgsql AS $body$ DECLARE v int := %c; BEGIN RETURN v; END $body$"},
	{name: "procedure body", does: code, text: "CREATE PROCEDURE kept_%w() LANGUAGE plpgsql AS $body$ BEGIN PERFORM %c; COMMIT; END $body$"},
	{name: "do", does: code, text: "DO $body$ BEGIN PERFORM %c; END $body$"},
	{name: "do in quotes", does: code, text: "DO LANGUAGE plpgsql %q"},
	{name: "do with execute", does: code, text: "DO $body$ BEGIN EXECUTE %q; END $body$"},
	{name: "do with execute and escapes", does: code, text: "DO $body$ BEGIN EXECUTE %e; END $body$"},
	{name: "do with perform and assignment", does: code, text: "DO $body$ DECLARE v int; BEGIN v := %c; FOR v IN SELECT %c LOOP NULL; END LOOP; END $body$"},
	{name: "query_to_xml", does: code, text: "SELECT query_to_xml(%q, true, true, '')"},
	{name: "query_to_xml by name", does: code, text: "SELECT pg_catalog.query_to_xml(nulls => true, tableforest => true, targetns => '', query => %q)"},
	{name: "ts_stat", does: code, text: "SELECT * FROM ts_stat(%q)"},
	{name: "copy from program", does: code, noParams: true, text: "COPY many_%w FROM PROGRAM %q"},
	{name: "copy to program with a call", does: code, noParams: true, text: "COPY (SELECT 1) TO PROGRAM %q"},
}
