-- session_state: what a session carries; the same rows make the same session.
\c
SELECT * FROM vault.session_state();
CREATE TABLE t.state (n bigint, kind text, name text, value text, detail text);
GRANT ALL ON t.state TO PUBLIC;

-- Settings: whatever SET and set_config left; nothing that was undone, that a
-- transaction leaves behind, or that nodes use.
SET work_mem = '123MB';
SET random_page_cost = 1.2345678901234;
SET datestyle = 'SQL, DMY';
SET TIME ZONE INTERVAL '+02:30' HOUR TO MINUTE;
SET search_path = "$user", public, "odd ""Name";
SET client_encoding = 'LATIN1';
SET standard_conforming_strings = off;
SET enable_seqscan = on;
SET my.custom = 'it''s';
SELECT set_config('My.Empty', '', false);
SET seed = 0.5;
SET hyperion_vault.joined = on;
SET hyperion_vault.lock_wait = '1s';
SET enable_sort = off;
RESET enable_sort;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SET LOCAL enable_material = off;
COMMIT;
BEGIN;
SET transaction_isolation = 'serializable';
SET transaction_read_only = on;
SET transaction_deferrable = on;
COMMIT;
BEGIN;
SET enable_hashjoin = off;
ROLLBACK;
SET ROLE regress_hv_app;
PREPARE b AS SELECT 1\; PREPARE "B"(int, text)
	AS SELECT $1, $2 /* ; */ \;
PREPARE a AS SELECT 'a;b';
DO 'BEGIN EXECUTE $x$ PREPARE inner_one (regclass) AS SELECT $1; $x$; END';
SELECT * FROM vault.session_state();
SELECT detail = ARRAY['regclass'::regtype::oid]::text AS types FROM vault.session_state() WHERE name = 'inner_one';
INSERT INTO t.state SELECT row_number() OVER (), s.* FROM vault.session_state() s;

-- The rows, applied in their order, give the same rows.
\c
SELECT count(set_config(name, value, false))
	FROM (SELECT * FROM t.state WHERE kind = 'setting' ORDER BY n) s;
SELECT current_user;
SELECT value FROM t.state WHERE kind = 'prepare' ORDER BY n \gexec
SELECT count(*) AS differing FROM
	(SELECT row_number() OVER () AS n, s.* FROM vault.session_state() s) now
	FULL JOIN t.state was USING (n)
	WHERE (now.kind, now.name, now.value, now.detail) IS DISTINCT FROM (was.kind, was.name, was.value, was.detail);
DEALLOCATE ALL;
SELECT count(*) FROM vault.session_state() WHERE kind = 'prepare';
\c
DROP TABLE t.state;

-- Who the session is comes last; what it could not set again, it cannot carry.
SET session_replication_role = 'replica';
SET ROLE regress_hv_bob;
SELECT * FROM vault.session_state();
SET SESSION AUTHORIZATION regress_hv_app;
SELECT * FROM vault.session_state();
RESET SESSION AUTHORIZATION;
RESET session_replication_role;
SELECT * FROM vault.session_state();
CREATE FUNCTION t.in_my_name() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$ SELECT set_config('lo_compat_privileges', 'on', false) $$;
SET SESSION AUTHORIZATION regress_hv_app;
SELECT t.in_my_name();
SELECT * FROM vault.session_state() WHERE name <> 'role';
\c
DROP FUNCTION t.in_my_name();

-- A value that the role may not see is not shown.
SET dynamic_library_path = '$libdir:/hidden';
SELECT * FROM vault.session_state();
SET ROLE regress_hv_app;
SELECT * FROM vault.session_state();
RESET ROLE;
GRANT pg_read_all_settings TO regress_hv_app;
SET ROLE regress_hv_app;
SELECT * FROM vault.session_state();
RESET ALL;
RESET ROLE;
REVOKE pg_read_all_settings FROM regress_hv_app;
SELECT * FROM vault.session_state();

-- What ties a session to its server.
DECLARE "z cursor" CURSOR WITH HOLD FOR SELECT 1;
LISTEN channel;
SELECT pg_advisory_lock(1), pg_advisory_lock_shared(-2, 3);
CREATE TEMP TABLE tt (i serial);
CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT kind, name, regexp_replace(value, 'pg_temp_\d+', 'pg_temp') AS value, detail FROM vault.session_state();
SELECT count(pg_advisory_lock(i)) FROM generate_series(100, 120) i;
SELECT count(*) FROM vault.session_state() WHERE name = 'advisory_lock';
SELECT pg_advisory_unlock_all();
UNLISTEN *;
CLOSE ALL;
BEGIN;
DECLARE in_block CURSOR FOR SELECT 1;
SELECT name FROM vault.session_state() WHERE name <> 'temp_object';
COMMIT;
DISCARD TEMP;
SELECT * FROM vault.session_state();

-- Libraries that keep something: dblink, and languages but plpgsql. The
-- handler here is none, so that no language has to be installed.
DO 'BEGIN END';
LOAD 'hstore';
SELECT * FROM vault.session_state();
LOAD 'dblink';
SELECT * FROM vault.session_state();
CREATE FUNCTION t.handler() RETURNS language_handler LANGUAGE c AS '$libdir/hstore', 'hstore_in';
CREATE LANGUAGE regress_hv_language HANDLER t.handler;
SELECT * FROM vault.session_state();
\c
SELECT * FROM vault.session_state();
DROP LANGUAGE regress_hv_language;
DROP FUNCTION t.handler();

-- Anybody's, whatever was taken from him and whatever stands in the way.
CREATE SCHEMA evil;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE FUNCTION evil.trap(text, text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.trap);
CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.trap);
CREATE FUNCTION evil.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION evil.pg_my_temp_schema() RETURNS oid LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE TABLE evil.pg_depend ();
SELECT pg_advisory_lock(7);
BEGIN;
REVOKE SELECT ON pg_depend, pg_language, pg_proc FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION pg_lock_status(), pg_prepared_statement(), pg_cursor(), pg_listening_channels() FROM PUBLIC;
SET search_path = evil, pg_catalog;
SET ROLE regress_hv_bob;
SELECT * FROM vault.session_state();
ROLLBACK;
\c
SET client_min_messages = warning;
DROP SCHEMA evil CASCADE;
