-- Installing, dropping and installing again; in a database of its own.
CREATE DATABASE regress_hv_install;
\c regress_hv_install
-- Somebody's schema of that name is not taken over.
CREATE SCHEMA vault;
CREATE FUNCTION vault.valid_name(name text) RETURNS bool LANGUAGE sql AS 'SELECT true';
-- 18 says in which line of a script.
\set SHOW_CONTEXT never
CREATE EXTENSION hyperion_vault;
\set SHOW_CONTEXT errors
DROP SCHEMA vault CASCADE;
CREATE EXTENSION hyperion_vault SCHEMA public;

-- The installing user's default privileges and search_path do no harm.
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_hv_app;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO regress_hv_app;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO regress_hv_app;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO regress_hv_app;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM PUBLIC;
SET search_path = '';
CREATE EXTENSION hyperion_vault;
RESET search_path;
SELECT c.relname FROM pg_class c, aclexplode(c.relacl) a
	WHERE c.relnamespace = 'vault'::regnamespace AND a.grantee <> c.relowner;
SELECT p.proname FROM pg_proc p, aclexplode(p.proacl) a
	WHERE p.pronamespace = 'vault'::regnamespace AND a.grantee = 'regress_hv_app'::regrole;
SELECT nspacl::text LIKE '%regress_hv_app%' AS leaked FROM pg_namespace WHERE nspname = 'vault';
SELECT has_function_privilege('regress_hv_bob', 'vault.read_secret(text, int, bool)', 'EXECUTE') AS may_read,
	has_type_privilege('regress_hv_bob', 'vault.sealed', 'USAGE') AS may_use,
	has_function_privilege('regress_hv_bob', 'vault.login_verifier(text)', 'EXECUTE') AS may_log_in;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM regress_hv_app;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM regress_hv_app;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM regress_hv_app;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SCHEMAS FROM regress_hv_app;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO PUBLIC;

-- Neither schema takes it along.
SET client_min_messages = warning;
DROP SCHEMA public CASCADE;
RESET client_min_messages;
SELECT count(*) FROM pg_extension WHERE extname = 'hyperion_vault';
DROP SCHEMA vault CASCADE;

-- No vault id yet; then a living session outlives DROP and CREATE.
SELECT vault.status()->'vault_id';
SELECT vault.next_version('a', 1, 'put');
INSERT INTO vault.meta (vault_id) VALUES (gen_random_uuid());
INSERT INTO vault.meta (vault_id) VALUES (gen_random_uuid());
SELECT first FROM vault.next_version('a', 1, 'put');
SELECT vault.grant_access('regress_hv_app', 'a', 'create');
SET ROLE regress_hv_app;
SELECT first FROM vault.next_version('a', 1, 'put');
RESET ROLE;
DROP EXTENSION hyperion_vault;
CREATE TEMP TABLE now_free (i int);
SELECT to_regnamespace('vault') IS NULL AS gone;
CREATE EXTENSION hyperion_vault;
SELECT vault.next_version('a', 1, 'put');
INSERT INTO vault.meta (vault_id) VALUES (gen_random_uuid());
SET ROLE regress_hv_app;
SELECT vault.next_version('a', 1, 'put');
RESET ROLE;
SELECT vault.grant_access('regress_hv_app', 'a', 'create');
SET ROLE regress_hv_app;
SELECT first FROM vault.next_version('a', 1, 'put');
RESET ROLE;

-- The original's bootstrap.
INSERT INTO vault.admin_tokens (name, token_sha256) VALUES ('first', sha256('token'));
\set VERBOSITY terse
INSERT INTO vault.admin_tokens (name, token_sha256) VALUES ('second', 'the token itself');
SELECT name, role_id, revoked_at FROM vault.admin_tokens;
\c contrib_regression
DROP DATABASE regress_hv_install;
