-- read_secret: rights, versions, and that hidden names cannot be told apart.
SELECT t.put('read/mine', 'v1'), t.put('read/mine', 'v2'), t.put('read/hidden', 'x');
SELECT vault.update_secret('read/mine', grace_period => '1 hour');
SELECT t.put('read/mine', 'v3');
SELECT vault.grant_access('regress_hv_app', 'read/mine');

SELECT t.read('read/mine');
-- Version 1 had no grace, version 2 has.
SELECT t.try($$SELECT t.read('read/mine', 1)$$), t.read('read/mine', 2), t.read('read/mine', 3);
SELECT t.try(format('SELECT t.read(''read/mine'', %s)', v)) FROM unnest(ARRAY[0, -1, 4, 2147483647]) v;
UPDATE vault.secret_versions SET expires_at = now() WHERE version = 2
	AND secret_id = (SELECT id FROM vault.secrets WHERE name = 'read/mine');
SELECT t.try($$SELECT t.read('read/mine', 2)$$);

SET ROLE regress_hv_app;
SELECT t.read('read/mine');
SELECT vault.read_secret('read/hidden');
SELECT vault.read_secret('read/absent');
SELECT t.try_hint($$SELECT vault.read_secret('read/hidden')$$) = replace(
	t.try_hint($$SELECT vault.read_secret('read/absent')$$), 'absent', 'hidden') AS same;
SELECT vault.read_secret('read/hidden', missing_ok => true) IS NULL AS hidden,
	vault.read_secret('read/absent', missing_ok => true) IS NULL AS absent,
	vault.read_secret('read/mine', 9, true) IS NULL AS no_such_version;

-- No table is open to an app role, and plans show nothing.
SELECT * FROM vault.secrets;
SELECT count(*) FROM vault.secret_versions;
SELECT * FROM vault.effective_access;
SELECT t.plan($$SELECT vault.read_secret('read/hidden', missing_ok => true)$$);
SELECT t.plan($$SELECT vault.read_secret('read/absent', missing_ok => true)$$);
RESET ROLE;

-- A view asks for the invoker's right, a definer function for the definer's.
CREATE VIEW t.v AS SELECT vault.read_secret('read/mine') AS s;
GRANT SELECT ON t.v TO regress_hv_bob;
CREATE FUNCTION t.lend() RETURNS vault.sealed LANGUAGE sql SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp AS $$ SELECT vault.read_secret('read/mine') $$;
SET ROLE regress_hv_bob;
SELECT s FROM t.v;
SELECT t.show(format('%s', t.lend()));
RESET ROLE;
DROP VIEW t.v;
DROP FUNCTION t.lend();

-- row_security and a hostile search_path play no part.
SET ROLE regress_hv_app;
SET row_security = off;
SELECT t.read('read/mine');
RESET row_security;
RESET ROLE;
CREATE SCHEMA evil;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE FUNCTION evil.yes(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION evil.yes(uuid, uuid) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.yes);
CREATE OPERATOR evil.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = evil.yes);
CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'infinity'::timestamptz $$;
CREATE FUNCTION evil.allowed(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
SET search_path = evil, pg_catalog, public;
SELECT t.put('read/hidden', 'only this one');
SELECT vault.delete_secret('read/gone');
SELECT vault.update_secret('read/hidden', description => 'changed');
SELECT vault.grant_access('regress_hv_app', 'read/granted'), vault.revoke_access('regress_hv_app', 'read/granted');
SET ROLE regress_hv_app;
CREATE TEMP TABLE secrets (id uuid, name text, current_version int);
SET search_path = pg_temp, evil, pg_catalog;
SELECT vault.read_secret('read/hidden');
SELECT t.read('read/mine');
RESET ROLE;
RESET search_path;
SELECT count(*) FROM vault.secrets WHERE description = 'changed';
SELECT name, current_version FROM vault.secrets WHERE name LIKE 'read/%' ORDER BY name;
SELECT pattern, actions FROM vault.grants WHERE role_name = 'regress_hv_app' ORDER BY pattern;
DROP TABLE pg_temp.secrets;
SET client_min_messages = warning;
DROP SCHEMA evil CASCADE;
RESET client_min_messages;

-- allowed_cidrs travel in the record.
UPDATE vault.secrets SET allowed_cidrs = '{10.0.0.0/8,2001:db8::/32}' WHERE name = 'read/mine';
SELECT t.read('read/mine');
\set VERBOSITY terse
UPDATE vault.secrets SET allowed_cidrs = '{}' WHERE name = 'read/mine';
UPDATE vault.secrets SET allowed_cidrs = '{NULL}' WHERE name = 'read/mine';
UPDATE vault.secrets SET allowed_cidrs = NULL WHERE name = 'read/mine';

-- Not even a careless superuser stores plaintext.
INSERT INTO vault.secret_versions (secret_id, version, value_format, kms_key_id, wrapped_dek, nonce, ciphertext, stage)
	SELECT id, 9, 1, 'k', '\x01', repeat('n', 24)::bytea, 'plain', 'pending' FROM vault.secrets WHERE name = 'read/mine';
INSERT INTO vault.secret_versions (secret_id, version, value_format, kms_key_id, wrapped_dek, nonce, ciphertext, stage)
	SELECT id, 9, 1, 'k', '\x01', 'n', repeat('c', 60)::bytea, 'pending' FROM vault.secrets WHERE name = 'read/mine';
