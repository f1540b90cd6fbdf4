-- Roles and tokens of REST, for its administrators; locked addresses: rest_admin,
-- rest_roles, rest_tokens, bootstrap_token, lockout.
SELECT vault.grant_service_role('regress_hv_service');
CREATE FUNCTION t.change(token text, change text, name text, detail jsonb = '{}') RETURNS text
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM vault.rest_admin(sha256(token::bytea), change, name, detail);
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
CREATE FUNCTION t.hex(token text) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
	RETURN encode(sha256(token::bytea), 'hex');

-- Nobody but the service role.
SET ROLE regress_hv_app;
SELECT vault.rest_admin('\x00', 'create_role', 'mine', '{}');
SELECT vault.rest_roles('\x00', NULL, '', 10);
SELECT vault.rest_tokens('\x00', '', 10);
SELECT vault.bootstrap_token('\x00');
SELECT vault.lockout('10.0.0.1', NULL);
SELECT vault.check_rest_admin('\x00');
SET SESSION AUTHORIZATION regress_hv_service;
SELECT vault.check_rest_admin('\x00');

-- The first token: once, whatever became of it.
\set VERBOSITY terse
SELECT vault.bootstrap_token('\x00');
\set VERBOSITY default
SELECT vault.bootstrap_token(sha256('boot')), vault.bootstrap_token(sha256('boot')), vault.bootstrap_token(sha256('other'));
SELECT * FROM vault.token_role(sha256('boot'));
SELECT t.change('boot', 'create_token', 'a second', jsonb_build_object('role', 'admin', 'sha256', t.hex('second')));
SELECT t.change('second', 'revoke_token', 'bootstrap');
SELECT vault.bootstrap_token(sha256('boot')), vault.bootstrap_token(sha256('other'));
SELECT t.change('boot', 'create_role', 'late');

-- Roles.
SELECT t.change('second', 'create_role', 'reader', '{"description":"reads","permissions":[{"action":"read","path":"app/*"},{"action":"list","path":"app/*"},{"action":"read","path":"app/*"}]}');
SELECT t.change('second', 'create_role', 'boss', '{"is_admin":true,"permissions":[]}');
SELECT t.change('second', 'create_role', 'reader');
SELECT t.change('second', 'create_role', 'admin');
SELECT t.change('second', 'create_role', 'none', '{"permissions":[{"action":"own","path":"a"}]}');
SELECT t.change('second', 'create_role', 'none', '{"permissions":[{"action":"read","path":"../a"}]}');
SELECT t.change('second', 'create_role', 'none', '{"permissions":[{"action":"read"}]}');
SELECT t.change('second', 'create_role', '');
SELECT name, description, is_admin, permissions, created_at <= now() AS made FROM vault.rest_roles(sha256('second'), NULL, '', 100);
SELECT name FROM vault.rest_roles(sha256('second'), NULL, 'admin', 1);
SELECT name FROM vault.rest_roles(sha256('second'), 'reader', '', 100);
SELECT name FROM vault.rest_roles(sha256('second'), 'none', '', 100);
SELECT t.change('second', 'set_permissions', 'reader', '{"permissions":[{"action":"*","path":"pay/*"}]}');
SELECT t.change('second', 'set_permissions', 'none', '{"permissions":[]}');
SELECT t.change('second', 'set_permissions', 'admin', '{"permissions":[]}');
SELECT name, description, is_admin, permissions FROM vault.rest_roles(sha256('second'), 'reader', '', 100);

-- Tokens.
SELECT t.change('second', 'create_token', 'a reader', jsonb_build_object('role', 'reader', 'sha256', t.hex('reader')));
SELECT t.change('second', 'create_token', 'a boss', jsonb_build_object('role', 'boss', 'sha256', t.hex('boss')));
SELECT t.change('second', 'create_token', 'a boss', jsonb_build_object('role', 'boss', 'sha256', t.hex('new')));
SELECT t.change('second', 'create_token', 'twin', jsonb_build_object('role', 'boss', 'sha256', t.hex('boss')));
SELECT t.change('second', 'create_token', 'lost', jsonb_build_object('role', 'none', 'sha256', t.hex('lost')));
SELECT t.change('second', 'create_token', 'lost', jsonb_build_object('sha256', t.hex('lost')));
SELECT t.change('second', 'create_token', 'lost', '{"role":"boss","sha256":"00"}');
SELECT t.change('second', 'create_token', 'lost', '{"role":"boss"}');
SELECT * FROM vault.token_role(sha256('reader'));
SELECT name, role, created_at <= now() AS made, last_used_at <= now() AS used, revoked_at <= now() AS revoked FROM vault.rest_tokens(sha256('boss'), '', 100);
SELECT name FROM vault.rest_tokens(sha256('boss'), 'a boss', 1);

-- Administrators alone, that live.
SELECT t.change(token, change, 'x', '{"role":"admin"}') FROM unnest(ARRAY['reader', 'none', 'boot']) token,
	unnest(ARRAY['create_role', 'set_permissions', 'delete_role', 'create_token', 'revoke_token']) change;
SELECT vault.rest_admin(NULL, 'create_role', 'x', '{}');
SELECT vault.rest_roles(sha256('reader'), NULL, '', 100);
SELECT vault.rest_tokens(sha256('reader'), '', 100);
SELECT vault.rest_tokens(NULL, '', 100);
SELECT t.change('boss', 'grant_access', 'x');

-- A role goes when its last token is revoked; what that had is nobody's.
SELECT t.change('boss', 'delete_role', 'reader');
SELECT t.change('boss', 'revoke_token', 'a reader'), t.change('boss', 'revoke_token', 'a reader'), t.change('boss', 'revoke_token', 'none');
SELECT t.change('boss', 'delete_role', 'reader'), t.change('boss', 'delete_role', 'reader'), t.change('boss', 'delete_role', 'admin');
SELECT count(*) FROM vault.token_role(sha256('reader'));
SELECT t.change('boss', 'create_role', 'reader', '{"permissions":[]}');
SELECT name, role, revoked_at IS NULL AS lives FROM vault.rest_tokens(sha256('boss'), '', 100);
SELECT name, permissions FROM vault.rest_roles(sha256('boss'), 'reader', '', 100);
-- Itself too.
SELECT t.change('boss', 'revoke_token', 'a boss'), t.change('boss', 'revoke_token', 'a second');
-- A row named admin is not the built-in role.
RESET SESSION AUTHORIZATION;
INSERT INTO vault.roles (name) VALUES ('admin');
SELECT t.change('second', 'create_token', 'third', jsonb_build_object('role', 'admin', 'sha256', t.hex('third')));
SELECT role, is_admin FROM vault.token_role(sha256('third'));
SELECT count(*), bool_and(is_admin) FROM vault.rest_roles(sha256('third'), 'admin', '', 10);
BEGIN READ ONLY;
SELECT count(*) FROM vault.rest_tokens(sha256('third'), '', 10);
ROLLBACK;

-- Locked addresses.
SET SESSION AUTHORIZATION regress_hv_service;
SELECT vault.lockout('10.0.0.1', NULL), vault.lockout('10.0.0.1', 0);
SELECT vault.lockout('10.0.0.1', 900), vault.lockout('10.0.0.1', 60), vault.lockout('2001:db8::/64', 1000000);
SELECT vault.lockout('10.0.0.1', NULL) BETWEEN 800 AND 900 AS locked, vault.lockout('10.0.0.2', NULL), vault.lockout('2001:db8::/64', NULL) > 86000 AS locked;
BEGIN READ ONLY;
SELECT vault.lockout('10.0.0.1', NULL) > 0 AS locked;
SELECT vault.lockout('10.0.0.1', 1);
ROLLBACK;
RESET SESSION AUTHORIZATION;
UPDATE vault.auth_lockouts SET locked_until = now() - interval '1 second' WHERE client_ip = '10.0.0.1';
SELECT vault.lockout('10.0.0.1', NULL);
SELECT vault.lockout('10.0.0.3', 60);
SELECT client_ip FROM vault.auth_lockouts ORDER BY 1;
INSERT INTO vault.auth_lockouts (client_ip, locked_until) SELECT '11.0.0.0'::inet + i, now() + interval '1 hour' FROM generate_series(1, 10000) i;
SELECT vault.lockout('10.0.0.4', 60);
DELETE FROM vault.auth_lockouts;
DELETE FROM vault.admin_tokens;
DELETE FROM vault.roles;
DELETE FROM vault.role_permissions;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA vault FROM regress_hv_service;
GRANT EXECUTE ON FUNCTION vault.login_verifier(text), vault.status(), vault.tick(), vault.hba_rules() TO regress_hv_service;
