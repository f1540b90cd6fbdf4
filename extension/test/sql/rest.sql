-- What nodes serve REST with: token_role, token_read, add_token, node_read, node_candidates,
-- node_list, node_next_version, node_write, node_update, node_delete.
SELECT vault.grant_service_role('regress_hv_service');
CREATE FUNCTION t.node_seal(name text, content text, action text, format int = 1) RETURNS text
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r record;
BEGIN
	SELECT * INTO r FROM vault.node_next_version(name, action, 'tester');
	RETURN t.record(name, r.secret_id, r.version, content, format);
END
$$;
CREATE FUNCTION t.node_put(name text, content text, action text = 'update', kind text = NULL, format int = 1) RETURNS int
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT vault.node_write(t.node_seal(name, content, action, format), action, kind, 'tester') $$;

-- Nobody but the service role.
SET ROLE regress_hv_app;
SELECT vault.token_role('\x00');
SELECT vault.add_token('mine', NULL, sha256('mine'));
SELECT vault.node_read('app/db', NULL, 'x');
SELECT vault.token_read('\x00', 'app/db', NULL);
SELECT vault.node_candidates('app/db', 'x');
SELECT vault.node_list('', '', 10);
SELECT vault.node_next_version('app/db', 'update', 'x');
SELECT vault.node_write('no record', 'update', NULL, 'x');
SELECT vault.node_update('app/db', NULL, NULL, NULL, NULL, 'x');
SELECT vault.node_delete('app/db', 'x');
SET SESSION AUTHORIZATION regress_hv_service;
SELECT vault.add_token('mine', NULL, sha256('mine'));
SELECT count(*) FROM vault.roles;

-- Tokens. The original's way to the first one: by a superuser.
RESET SESSION AUTHORIZATION;
INSERT INTO vault.admin_tokens (name, token_sha256) VALUES ('x', sha256('tok'::bytea));
INSERT INTO vault.roles (name, is_admin) VALUES ('boss', true), ('reader', false);
INSERT INTO vault.role_permissions SELECT id, a, p FROM vault.roles,
	(VALUES ('read', 'app/*'), ('list', 'app/*')) v(a, p) WHERE name = 'reader';
SELECT vault.add_token('a boss', 'boss', sha256('boss tok'));
SELECT vault.add_token('a reader', 'reader', sha256('reader tok'));
SELECT vault.add_token('an admin', 'admin', sha256('admin tok'));
SELECT vault.add_token('lost', 'reader', sha256('lost tok'));
SELECT vault.add_token('nobody', 'no such', sha256('nobody tok'));
SELECT vault.add_token('a reader', 'reader', sha256('other tok'));
SELECT vault.add_token('short', 'reader', 'tok');
UPDATE vault.admin_tokens SET role_id = gen_random_uuid() WHERE name = 'lost';
SET SESSION AUTHORIZATION regress_hv_service;
SELECT r.* FROM unnest(ARRAY['tok', 'boss tok', 'reader tok', 'admin tok', 'lost tok', 'nobody tok', '']) w,
	vault.token_role(sha256(w::bytea)) r ORDER BY token;
-- Used just now, which is not noted again so soon; nor where nothing is written.
RESET SESSION AUTHORIZATION;
SELECT name, last_used_at IS NOT NULL AS used, xmin AS row_of FROM vault.admin_tokens WHERE name = 'x' \gset
SELECT token FROM vault.token_role(sha256('tok'));
SELECT :'used' AS used, xmin = :row_of AS same_row FROM vault.admin_tokens WHERE name = 'x';
UPDATE vault.admin_tokens SET last_used_at = now() - interval '6 minutes' WHERE name = 'x';
BEGIN READ ONLY;
SELECT token FROM vault.token_role(sha256('tok'));
COMMIT;
SELECT last_used_at < now() - interval '5 minutes' AS old FROM vault.admin_tokens WHERE name = 'x';
SELECT token FROM vault.token_role(sha256('tok'));
SELECT last_used_at < now() - interval '5 minutes' AS old FROM vault.admin_tokens WHERE name = 'x';
UPDATE vault.admin_tokens SET revoked_at = now() WHERE name = 'x';
SELECT count(*) FROM vault.token_role(sha256('tok'));
-- Who comes without a token: reads and verifies all, until there is a role ip,
-- which is never an admin's.
SELECT * FROM vault.token_role(NULL);
INSERT INTO vault.roles (name, is_admin) VALUES ('ip', true);
SELECT * FROM vault.token_role(NULL);
INSERT INTO vault.role_permissions SELECT id, 'read', 'public/*' FROM vault.roles WHERE name = 'ip';
SELECT * FROM vault.token_role(NULL);

-- Records: of what can be read now, and nothing of what cannot.
SET SESSION AUTHORIZATION regress_hv_service;
SELECT t.node_put('rest/a', 'one', 'create', 'manual'), t.node_put('rest/auto', 'one', 'create', 'automatic');
SELECT t.node_put('rest/pair', 'one', 'create', 'manual', 3), t.node_put('rest/bin', 'one', 'create', 'manual', 2);
SELECT t.node_put('rest/a', 'two');
SELECT n, t.show(record) AS record, version, created_at <= now() AS made, kind, format
	FROM unnest(ARRAY['rest/a', 'rest/auto', 'rest/pair', 'rest/bin', 'rest/none']) n, vault.node_read(n, NULL, 'tester');
SELECT version FROM vault.node_read('rest/a', 1, 'tester');
SELECT vault.node_read('rest/a', 3, 'tester'), vault.node_read('rest/a', 0, 'tester'), vault.node_read('rest/a', -1, 'tester');
SELECT vault.node_update('rest/a', NULL, '1 hour', 'about a', '{10.0.0.0/8}', 'tester');
SELECT t.node_put('rest/a', 'three');
SELECT version, stage, created_at <= now() AS made, expires_at > now() AS in_grace, t.show(record) FROM vault.node_candidates('rest/a', 'tester');
SELECT count(*) FROM vault.node_candidates('rest/none', 'tester');
-- The same along with who asks, for whom the rules let read it; nobody else learns
-- whether there is one.
RESET SESSION AUTHORIZATION;
INSERT INTO vault.role_permissions SELECT id, a, p FROM vault.roles,
	(VALUES ('read', 'rest/a'), ('verify', 'rest/pair'), ('write', 'rest/bin'), ('*', 'rest/au*'), ('list', '*')) v(a, p) WHERE name = 'reader';
SET SESSION AUTHORIZATION regress_hv_service;
SELECT w, n, r.token, r.role, r.is_admin, cardinality(r.rules) AS rules, t.show(r.record) AS record, r.created_at <= now() AS made, r.kind
	FROM unnest(ARRAY['reader tok', 'boss tok', 'lost tok', 'none', NULL]) WITH ORDINALITY w(w, i),
		unnest(ARRAY['rest/a', 'rest/auto', 'rest/pair', 'rest/bin', 'rest/ab', 'rest/none']) n, vault.token_read(sha256(w::bytea), n, NULL) r ORDER BY i, n COLLATE "C";
SELECT t.show(r.record) AS record FROM unnest(ARRAY[1, 2, 3, 0, -1]) v, vault.token_read(sha256('boss tok'), 'rest/a', v) r;
SELECT r.token FROM vault.token_read(sha256('tok'), 'rest/a', NULL) r;
SELECT vault.token_read(NULL, NULL, NULL);
SELECT vault.token_read(NULL, '../etc', NULL);
-- Its use is noted as by token_role.
RESET SESSION AUTHORIZATION;
UPDATE vault.admin_tokens SET last_used_at = now() - interval '6 minutes' WHERE name = 'a boss';
BEGIN READ ONLY;
SELECT token FROM vault.token_read(sha256('boss tok'), 'rest/a', NULL);
COMMIT;
SELECT last_used_at < now() - interval '5 minutes' AS old FROM vault.admin_tokens WHERE name = 'a boss';
SET SESSION AUTHORIZATION regress_hv_service;
SELECT token FROM vault.token_read(sha256('boss tok'), 'rest/a', NULL);
RESET SESSION AUTHORIZATION;
SELECT last_used_at < now() - interval '5 minutes' AS old FROM vault.admin_tokens WHERE name = 'a boss';
DELETE FROM vault.role_permissions WHERE path_pattern <> 'app/*' AND role_id = (SELECT id FROM vault.roles WHERE name = 'reader');
SET SESSION AUTHORIZATION regress_hv_service;
SELECT vault.node_read(NULL, NULL, 'tester');
SELECT vault.node_read('../etc', NULL, 'tester');
SELECT count(*) FROM vault.node_candidates('a//b', 'tester');

-- Metadata, page by page.
SELECT name, kind, format, description, current_version, rotation_interval_secs, grace_period_secs, next_rotation_at, allowed_cidrs
	FROM vault.node_list('rest/', '', 100);
SELECT name FROM vault.node_list('rest/', 'rest/auto', 1);
SELECT name FROM vault.node_list('rest/p', '', 10);
SELECT name FROM vault.node_list('rest/%', '', 10);
SELECT created_at <= updated_at AS made FROM vault.node_list('rest/a', '', 1);
SELECT vault.node_update('rest/auto', '1 day', '2 hours', '', NULL, 'tester');
SELECT vault.node_update('rest/a', NULL, '0', '', '{}', 'tester');
SELECT name, description, rotation_interval_secs, grace_period_secs, next_rotation_at > now() AS due_later, allowed_cidrs FROM vault.node_list('rest/a', '', 2);
SELECT vault.node_update('rest/a', '1 day', NULL, NULL, NULL, 'tester');
SELECT vault.node_update('rest/none', NULL, NULL, 'x', NULL, 'tester');

-- What is refused whoever asks.
SELECT t.try_hint($$SELECT t.node_put('rest/a', 'x', 'create', 'manual')$$);
SELECT t.try_hint($$SELECT t.node_put('rest/none', 'x')$$);
SELECT t.try_hint($$SELECT t.node_put('rest/none', 'x', 'rotate')$$);
SELECT t.try_hint($$SELECT t.node_put('rest/a', 'x', 'rotate')$$);
SELECT t.try_hint($$SELECT t.node_put('rest/a', 'x', 'put')$$);
SELECT t.try_hint($$SELECT t.node_put('rest/b', 'x', 'create', 'sealed')$$);
SELECT t.try_hint($$SELECT t.node_put('rest/a', 'x', 'update', NULL, 3)$$);
SELECT t.try_hint($$SELECT t.node_put('rest/pair', 'x')$$);
SELECT t.try_hint($$SELECT vault.node_write('hunter2', 'update', NULL, 'tester')$$);
SELECT t.try_hint($$SELECT vault.node_write(NULL, 'update', NULL, 'tester')$$);
SELECT t.try_hint($$SELECT vault.node_write(t.record('rest/a', gen_random_uuid(), 9, 'x'), 'update', NULL, 'tester')$$);
SELECT t.try_hint($$SELECT vault.node_write(r, 'update', NULL, 'tester'), vault.node_write(r, 'update', NULL, 'tester')
	FROM (SELECT t.node_seal('rest/a', 'x', 'update') AS r OFFSET 0) s$$);
SELECT count(*) FROM vault.node_list('rest/none', '', 1);
-- A rotation; what was reserved and not used leaves no gap.
BEGIN;
SELECT version, kind, format, current_version FROM vault.node_next_version('rest/auto', 'rotate', 'tester');
ROLLBACK;
SELECT t.node_put('rest/auto', 'two', 'rotate'), t.node_put('rest/pair', 'two', 'update', NULL, 3);
BEGIN READ ONLY;
SELECT vault.node_next_version('rest/a', 'update', 'tester');
ROLLBACK;
-- By SQL such secrets are what they are.
RESET SESSION AUTHORIZATION;
SELECT t.read('rest/pair'), t.read('rest/bin');
SELECT t.try_hint($$SELECT t.put('rest/pair', 'x')$$);

-- Deleted is gone; a name's numbers go on.
SET SESSION AUTHORIZATION regress_hv_service;
SELECT vault.node_delete('rest/a', 'tester'), vault.node_delete('rest/none', 'tester');
SELECT vault.node_delete('rest/a', 'tester');
SELECT record FROM vault.node_read('rest/a', NULL, 'tester');
SELECT count(*) FROM vault.node_candidates('rest/a', 'tester');
SELECT version, current_version FROM vault.node_next_version('rest/a', 'create', 'tester');
SELECT t.node_put('rest/a', 'again', 'create', 'manual');
RESET SESSION AUTHORIZATION;
DELETE FROM vault.admin_tokens;
DELETE FROM vault.roles;
DELETE FROM vault.role_permissions;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA vault FROM regress_hv_service;
GRANT EXECUTE ON FUNCTION vault.login_verifier(text), vault.status(), vault.tick(), vault.hba_rules() TO regress_hv_service;
