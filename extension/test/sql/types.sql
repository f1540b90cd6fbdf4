-- vault.sealed: where it may be made, printed, converted and kept.
SELECT t.put('type/a', 'one') = 1 AS stored;

-- It prints in every shape in which a query can carry it.
SELECT pg_typeof(x) FROM (SELECT vault.read_secret('type/a') AS x) s;
WITH c AS MATERIALIZED (SELECT vault.read_secret('type/a') AS x) SELECT pg_typeof(x) FROM c;
SELECT pg_typeof(CASE WHEN true THEN vault.read_secret('type/a') END),
	pg_typeof(coalesce(vault.read_secret('nope', missing_ok => true), vault.read_secret('type/a'))),
	pg_typeof(NULL::vault.sealed);
SELECT t.show(format('%s', x)) FROM (SELECT vault.read_secret('type/a') AS x UNION ALL SELECT NULL) s;

-- It cannot be forged.
SELECT 'hv1.AAAA'::vault.sealed;
SELECT CAST('hv1.AAAA'::text AS vault.sealed);
SELECT '{hv1.AAAA}'::vault.sealed[];
SELECT coalesce(vault.read_secret('type/a'), 'a default');
SELECT vault.read_secret('type/a') UNION ALL SELECT 'x';
SELECT vault.read_secret('type/a') UNION ALL SELECT 'x'::text;
CREATE FUNCTION t.forge() RETURNS vault.sealed LANGUAGE plpgsql AS $$ BEGIN RETURN 'hv1.AAAA'::text; END $$;
SELECT t.forge();
DROP FUNCTION t.forge();
PREPARE p(vault.sealed) AS SELECT $1;
EXECUTE p('hv1.AAAA');
DEALLOCATE p;

-- No operators: nothing compares or sorts ciphertext.
SELECT DISTINCT vault.read_secret('type/a');
SELECT 1 ORDER BY vault.read_secret('type/a');
SELECT vault.read_secret('type/a') = vault.read_secret('type/a');

-- Conversions meet the hint.
SELECT vault.read_secret('type/a')::text;
SELECT t.try_hint(format('SELECT vault.read_secret(''type/a'')::%s', ty))
	FROM unnest(ARRAY['varchar', 'bpchar', 'name', 'bytea', 'json', 'jsonb', 'xml', 'int', 'uuid']) ty;
SELECT t.try(q) FROM unnest(ARRAY[
	$$SELECT vault.read_secret('type/a') || 'x'$$,
	$$SELECT quote_literal(vault.read_secret('type/a'))$$,
	$$SELECT to_json(vault.read_secret('type/a'))$$,
	$$SELECT to_jsonb(vault.read_secret('type/a'))$$,
	$$SELECT row_to_json(s) FROM (SELECT vault.read_secret('type/a')) s$$,
	$$SELECT jsonb_agg(vault.read_secret('type/a'))$$,
	$$SELECT json_build_object('a', vault.read_secret('type/a'))$$,
	$$SELECT md5(vault.read_secret('type/a'))$$,
	$$SELECT string_agg(vault.read_secret('type/a'), ',')$$,
	$$SELECT set_config('a.b', vault.read_secret('type/a'), false)$$,
	$$SELECT vault.put_secret('type/b', vault.read_secret('type/a'))$$]) q;
DO $$
DECLARE
	v text;
BEGIN
	v := vault.read_secret('type/a');
END
$$;
DO $$
DECLARE
	v text;
BEGIN
	SELECT vault.read_secret('type/a') INTO v;
END
$$;
CREATE TEMP TABLE plain (v text);
INSERT INTO plain SELECT vault.read_secret('type/a');
DROP TABLE plain;

-- What still gets at the output function yields ciphertext, never the value.
SELECT t.show(format('%s', vault.read_secret('type/a'))), t.show(concat(vault.read_secret('type/a'))),
	left(row(vault.read_secret('type/a'))::text, 5);

-- No column may have the type, in any depth.
CREATE TABLE t.c1 AS SELECT vault.read_secret('type/a') AS leak;
SELECT vault.read_secret('type/a') AS leak INTO t.c1;
CREATE TABLE t.c1 (a int, b vault.sealed);
CREATE TEMP TABLE c1 (b vault.sealed);
CREATE TABLE t.c1 (b vault.sealed[]);
CREATE DOMAIN t.d AS vault.sealed;
CREATE TABLE t.c1 (b t.d);
CREATE TYPE t.ct AS (b vault.sealed);
CREATE MATERIALIZED VIEW t.c1 AS SELECT vault.read_secret('type/a') AS leak;
CREATE TABLE t.c1 (a int);
ALTER TABLE t.c1 ADD b vault.sealed;
ALTER TABLE t.c1 ADD b t.d;
CREATE VIEW t.v AS SELECT vault.read_secret('type/a') AS leak;
ALTER TABLE t.c1 ADD b t.v;
ALTER TABLE t.c1 ADD b t.v[];
CREATE TYPE t.ct AS (a int);
ALTER TYPE t.ct ADD ATTRIBUTE b vault.sealed;
DROP TYPE t.ct;
DROP TABLE t.c1;
CREATE SCHEMA t2 CREATE TABLE c1 (b vault.sealed);
SELECT pg_typeof(leak) FROM t.v;
DROP VIEW t.v;
-- A view that gets one when a column holds its rows.
CREATE VIEW t.v AS SELECT 1 AS a;
CREATE TABLE t.c1 (r t.v[]);
CREATE OR REPLACE VIEW t.v AS SELECT 1 AS a, NULL::vault.sealed AS s;
DROP TABLE t.c1;
CREATE OR REPLACE VIEW t.v AS SELECT 1 AS a, NULL::vault.sealed AS s;
CREATE TABLE t.c1 (r t.v);
DROP VIEW t.v;
DROP DOMAIN t.d;
-- Nor what EXPLAIN ANALYZE makes, which fires no event trigger.
EXPLAIN ANALYZE CREATE TABLE t.c1 AS SELECT vault.read_secret('type/a') AS leak;
EXPLAIN ANALYZE SELECT NULL::vault.sealed[] AS leak INTO TEMP c1;
EXPLAIN ANALYZE CREATE MATERIALIZED VIEW t.c1 AS SELECT vault.read_secret('type/a') AS leak;
PREPARE p AS SELECT vault.read_secret('type/a') AS leak;
EXPLAIN ANALYZE CREATE TABLE t.c1 AS EXECUTE p;
DEALLOCATE p;
SELECT to_regclass('t.c1') IS NULL AS none;

-- The event trigger is a courtesy, the stamp is the wall.
ALTER EVENT TRIGGER hyperion_vault_no_sealed_columns DISABLE;
CREATE TABLE t.leak AS SELECT vault.read_secret('type/a') AS leak;
SELECT * FROM t.leak;
COPY t.leak TO STDOUT;
SELECT t.try('SELECT format(''%s'', leak) FROM t.leak');
BEGIN;
CREATE TEMP TABLE own AS SELECT vault.read_secret('type/a') AS x;
SELECT t.show(format('%s', x)) FROM own;
COMMIT;
SELECT x FROM own;
\c -
SELECT * FROM t.leak;
DROP TABLE t.leak;
ALTER EVENT TRIGGER hyperion_vault_no_sealed_columns ENABLE;

-- The transaction and the role are part of the stamp.
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT vault.read_secret('type/a');
COMMIT;
FETCH c;
CLOSE c;
DECLARE c CURSOR WITH HOLD FOR SELECT vault.read_secret('type/a');
FETCH c;
CLOSE c;
ALTER EVENT TRIGGER hyperion_vault_no_sealed_columns DISABLE;
BEGIN;
CREATE TEMP TABLE own AS SELECT vault.read_secret('type/a') AS x;
GRANT SELECT ON own TO regress_hv_app;
SAVEPOINT s;
SELECT t.show(format('%s', x)) FROM own;
SET LOCAL ROLE regress_hv_app;
SELECT x FROM own;
ROLLBACK;
ALTER EVENT TRIGGER hyperion_vault_no_sealed_columns ENABLE;
BEGIN;
DECLARE c CURSOR FOR SELECT vault.read_secret('type/a');
SET LOCAL ROLE regress_hv_app;
FETCH c;
ROLLBACK;
-- A savepoint changes nothing.
BEGIN;
SAVEPOINT s;
SELECT t.show(format('%s', vault.read_secret('type/a')));
ROLLBACK TO s;
SELECT t.show(format('%s', vault.read_secret('type/a')));
COMMIT;

CREATE PROCEDURE t.across() LANGUAGE plpgsql AS $$
DECLARE
	v vault.sealed;
	s text;
BEGIN
	v := vault.read_secret('type/a');
	COMMIT;
	s := format('%s', v);
END
$$;
CALL t.across();
DROP PROCEDURE t.across();
SELECT count(*) FROM pg_cast WHERE castsource = 'vault.sealed'::regtype AND castcontext = 'a';
