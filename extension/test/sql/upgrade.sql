-- From 1.0 to the version of today: everything goes on, nothing differs from a
-- fresh installation. In databases of their own.
CREATE ROLE regress_hv_super SUPERUSER;
CREATE DATABASE regress_hv_fresh;
CREATE DATABASE regress_hv_upgrade;
\set members 'SELECT md5(string_agg(x, chr(10) ORDER BY x COLLATE "C")) AS objects, count(*) FROM (SELECT pg_describe_object(d.classid, d.objid, 0) || coalesce(pg_get_functiondef(p.oid) || p.proowner::regrole || p.proacl::text || coalesce((SELECT i.initprivs::text FROM pg_init_privs i WHERE i.classoid = d.classid AND i.objoid = d.objid), ''''), '''') AS x FROM pg_depend d LEFT JOIN pg_proc p ON p.oid = d.objid AND d.classid = ''pg_proc''::regclass WHERE d.refclassid = ''pg_extension''::regclass AND d.deptype = ''e'' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = ''hyperion_vault'')) m'
\c regress_hv_fresh
CREATE EXTENSION hyperion_vault;
SELECT extversion AS version FROM pg_extension WHERE extname = 'hyperion_vault' \gset
:members \gset fresh_

\c regress_hv_upgrade
CREATE EXTENSION hyperion_vault VERSION '1.0';
INSERT INTO vault.meta (vault_id) VALUES ('11111111-2222-4333-8444-555555555555');
INSERT INTO vault.secrets (id, name, kind, current_version)
	VALUES ('aaaaaaaa-2222-4333-8444-555555555555', 'up/a', 'manual', 1);
INSERT INTO vault.secret_versions (secret_id, version, value_format, kms_key_id, wrapped_dek, nonce, ciphertext, stage)
	VALUES ('aaaaaaaa-2222-4333-8444-555555555555', 1, 1, 'local:test', '\xdd', decode(repeat('aa', 24), 'hex'),
		convert_to(rpad('old', 49, '.'), 'UTF8'), 'current');
SELECT vault.grant_access('regress_hv_app', 'up/*', 'read', 'write');
SELECT vault.grant_service_role('regress_hv_service');
GRANT EXECUTE ON FUNCTION vault.login_verifier(text) TO regress_hv_writer WITH GRANT OPTION;
SELECT md5(format('%s', vault.read_secret('up/a'))) AS before \gset
SELECT vault.session_state();

-- By another superuser than the one who installed, with default privileges.
ALTER DEFAULT PRIVILEGES FOR ROLE regress_hv_super GRANT EXECUTE ON FUNCTIONS TO regress_hv_bob;
ALTER DEFAULT PRIVILEGES FOR ROLE regress_hv_super GRANT ALL ON TABLES TO regress_hv_bob;
SET ROLE regress_hv_super;
ALTER EXTENSION hyperion_vault UPDATE;
RESET ROLE;
ALTER DEFAULT PRIVILEGES FOR ROLE regress_hv_super REVOKE EXECUTE ON FUNCTIONS FROM regress_hv_bob;
ALTER DEFAULT PRIVILEGES FOR ROLE regress_hv_super REVOKE ALL ON TABLES FROM regress_hv_bob;
SELECT extversion = :'version' AS updated FROM pg_extension WHERE extname = 'hyperion_vault';
SELECT proname, proowner = 'regress_hv_super'::regrole AS stranger FROM pg_proc
	WHERE pronamespace = 'vault'::regnamespace AND proname IN ('session_state', 'hba_rules', 'client_addr', 'replayed', 'run_outside_script', 'token_role', 'token_read', 'node_write', 'rest_admin', 'audit_append', 'audit_store', 'prune_audit')
	ORDER BY proname;

SELECT evtowner = 'regress_hv_super'::regrole AS stranger, evttags @> '{CREATE VIEW}' AS current
	FROM pg_event_trigger WHERE evtname = 'hyperion_vault_no_sealed_columns';

SELECT relname, relowner = 'regress_hv_super'::regrole AS stranger, relacl IS NULL OR relacl::text NOT LIKE '%regress_hv_bob%' AS closed,
	relrowsecurity AND relforcerowsecurity AS rls FROM pg_class WHERE oid = 'vault.audit_anchors'::regclass;
SELECT amname FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE c.oid = 'vault.audit_log_at'::regclass;
SELECT count(*) AS rows_to_keep FROM pg_class WHERE relnamespace = 'vault'::regnamespace AND relkind IN ('r', 'v') AND has_type_privilege('regress_hv_bob', reltype, 'USAGE');

-- In the session of before and in another one: the data, the rights, the lock.
SELECT md5(format('%s', vault.read_secret('up/a'))) = :'before' AS same;
\c
SET ROLE regress_hv_app;
SELECT md5(format('%s', vault.read_secret('up/a'))) = :'before' AS same;
SELECT first FROM vault.next_version('up/a', 1, 'put');
SELECT * FROM vault.session_state();
RESET ROLE;
-- Who could ask for verifiers can ask for the rules, and nobody else.
SELECT r, has_function_privilege(r, 'vault.hba_rules()', 'EXECUTE') AS may,
	has_function_privilege(r, 'vault.hba_rules()', 'EXECUTE WITH GRANT OPTION') AS may_grant
	FROM unnest(ARRAY['regress_hv_service', 'regress_hv_writer', 'regress_hv_bob']) r;
-- And for what REST is served with; add_token stays the owner's.
SELECT r, f, has_function_privilege(r, f::regprocedure, 'EXECUTE') AS may
	FROM unnest(ARRAY['regress_hv_service', 'regress_hv_bob']) r,
		unnest(ARRAY['vault.token_role(bytea)', 'vault.token_read(bytea,text,int)', 'vault.node_delete(text,text)', 'vault.rest_admin(bytea,text,text,jsonb)', 'vault.lockout(inet,int)', 'vault.claim_rotation(text,int)', 'vault.audit_position(uuid)', 'vault.audit_append(uuid,bigint,int,bytea,bool,bytea,timestamptz,bytea,bytea)', 'vault.audit_store(uuid,bigint,int,bytea,bytea)', 'vault.prune_audit(timestamptz)', 'vault.add_token(text,text,bytea)']) f;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA vault FROM regress_hv_writer;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA vault FROM regress_hv_service;
:members \gset
SELECT :'objects' = :'fresh_objects' AS same, :count = :fresh_count AS as_many;
\c contrib_regression
DROP DATABASE regress_hv_fresh;
DROP DATABASE regress_hv_upgrade;
DROP ROLE regress_hv_super;
