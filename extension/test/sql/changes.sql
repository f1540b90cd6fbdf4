-- vault.changes: one row for each change, by whatever way it comes.
DELETE FROM vault.changes;
CREATE FUNCTION t.changes() RETURNS SETOF text LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT concat_ws(' ', c.action, coalesce(c.version::text, '-'), c.session_role, c."current_role", c.subject,
			CASE WHEN c.secret_id IS NOT NULL THEN '= ' || s.name END)
		FROM vault.changes c LEFT JOIN vault.secrets s ON s.id = c.secret_id ORDER BY c.id;
	DELETE FROM vault.changes;
END
$$;

-- Secrets. What is written in whose right, in a session of whose.
SELECT vault.grant_access('regress_hv_writer', 'chg/*', '*'), vault.grant_access('regress_hv_group', 'chg/*', '*');
SELECT vault.grant_access('regress_hv_group', 'chg/*', 'read', 'list');
SELECT * FROM t.changes();
SET SESSION AUTHORIZATION regress_hv_writer;
SELECT t.put('chg/a', '1'), t.put('chg/a', '2');
SELECT vault.create_secret('chg/auto', 'automatic', t.seal('chg/auto', '1', 'create'), rotation_interval => '1 day');
SELECT vault.rotate_secret('chg/auto', t.seal('chg/auto', '2', 'rotate'));
SELECT vault.update_secret('chg/auto', description => 'new');
SELECT vault.delete_secret('chg/a'), vault.delete_secret('chg/a');
SELECT t.put('chg/a', '3');
SET SESSION AUTHORIZATION regress_hv_noinherit;
SET ROLE regress_hv_group;
SELECT t.put('chg/a', '4');
RESET SESSION AUTHORIZATION;
CREATE FUNCTION t.definer() RETURNS int LANGUAGE sql VOLATILE SECURITY DEFINER AS $$ SELECT t.put('chg/a', '5') $$;
ALTER FUNCTION t.definer() OWNER TO regress_hv_writer;
SET SESSION AUTHORIZATION regress_hv_bob;
SELECT t.definer();
RESET SESSION AUTHORIZATION;
SELECT * FROM t.changes();
-- With what is rolled back the row goes too.
BEGIN;
SAVEPOINT s;
SELECT t.put('chg/a', '6');
ROLLBACK TO s;
SELECT vault.delete_secret('chg/auto');
COMMIT;
SELECT t.try($$SELECT vault.delete_secret('chg/' || 1 / (current_version - current_version)) FROM vault.secrets WHERE vault.delete_secret('chg/a')$$);
SELECT * FROM t.changes();

-- A reserved version has the number of its row, in whatever order they are stored.
BEGIN;
SELECT secret_id, first, changes FROM vault.next_version('chg/a', 3, 'put') \gset
SELECT :'changes'::bigint[] <> '{}' AS numbered, cardinality(:'changes'::bigint[]) AS n;
SELECT vault.put_secret('chg/a', t.record('chg/a', :'secret_id', :first + 2, 'c'));
SAVEPOINT s;
SELECT vault.put_secret('chg/a', t.record('chg/a', :'secret_id', :first, 'a'));
ROLLBACK TO s;
SELECT vault.put_secret('chg/a', t.record('chg/a', :'secret_id', :first, 'a'));
COMMIT;
SELECT array_position(:'changes'::bigint[], id) AS number, version - :first AS of FROM vault.changes ORDER BY 1;
DELETE FROM vault.changes;

-- Rights: where something changed.
SELECT vault.grant_access('regress_hv_app', 'chg/*', 'read', 'list'), vault.grant_access('regress_hv_app', 'chg/*', 'list');
SELECT vault.grant_access('regress_hv_app', 'chg/*', 'verify');
SELECT vault.revoke_access('regress_hv_app', 'chg/*', 'read');
SET client_min_messages = error;
SELECT vault.revoke_access('regress_hv_app', 'chg/*', 'read'), vault.revoke_access('regress_hv_app', 'chg/x');
RESET client_min_messages;
SELECT actions FROM vault.grants WHERE role_name = 'regress_hv_app' AND pattern = 'chg/*';
SELECT vault.revoke_access('regress_hv_app', 'chg/*');
UPDATE vault.grants SET role_oid = 1 WHERE pattern = 'chg/*';
SELECT vault.adopt_grants(), vault.adopt_grants();
SET ROLE regress_hv_app;
SELECT vault.grant_access('regress_hv_app', 'chg/*');
RESET ROLE;
SELECT * FROM t.changes();

-- What nodes do, for REST and to rotate.
SELECT vault.grant_service_role('regress_hv_service');
SET SESSION AUTHORIZATION regress_hv_service;
SELECT vault.node_write(t.record(n, r.secret_id, r.version, 'x'), a, 'automatic', 'tester')
	FROM (VALUES ('chg/n', 'create')) v(n, a), vault.node_next_version(n, a, 'tester') r;
SELECT vault.node_write(t.record(n, r.secret_id, r.version, 'x'), a, NULL, 'tester')
	FROM (VALUES ('chg/n', 'update')) v(n, a), vault.node_next_version(n, a, 'tester') r;
SELECT vault.node_write(t.record(n, r.secret_id, r.version, 'x'), a, NULL, 'tester')
	FROM (VALUES ('chg/n', 'rotate')) v(n, a), vault.node_next_version(n, a, 'tester') r;
SELECT vault.node_update('chg/n', '1 day', NULL, NULL, '{10.0.0.0/8}', 'tester');
SELECT vault.node_reschedule('chg/n', now() - interval '1 second', 'tester');
SELECT vault.tick();
SELECT j.job, vault.complete_rotation(j.job, j.token, j.current_version, t.record(j.name, r.secret_id, r.version, 'y')) IS NOT NULL AS done
	FROM vault.claim_rotation('n', 1) j, vault.node_next_version(j.name, 'rotate', 'tester') r WHERE j.name = 'chg/n' \gset
SELECT :'done' AS done;
SELECT vault.node_delete('chg/n', 'tester'), vault.node_delete('chg/n', 'tester');
SELECT vault.bootstrap_token(sha256('boot')), vault.bootstrap_token(sha256('boot'));
SELECT vault.rest_admin(sha256('boot'), c, n, d) FROM (VALUES
	('create_role', 'reader', '{"permissions": []}'::jsonb),
	('set_permissions', 'reader', '{"permissions": []}'),
	('create_token', 'a token', jsonb_build_object('role', 'reader', 'sha256', encode(sha256('tok'), 'hex'))),
	('revoke_token', 'a token', '{}'),
	('delete_role', 'reader', '{}')) v(c, n, d);
RESET SESSION AUTHORIZATION;
SELECT vault.add_token('by hand', NULL, sha256('hand'));
SELECT * FROM t.changes();

-- Nobody writes one by himself.
SET ROLE regress_hv_app;
SELECT vault.log_change('delete', 'chg/a');
SET ROLE regress_hv_service;
SELECT vault.log_change('delete', 'chg/a');
RESET ROLE;
DELETE FROM vault.admin_tokens;
SELECT vault.delete_secret(name) FROM vault.list_secrets('chg/');
SET client_min_messages = error;
SELECT vault.revoke_access(r, 'chg/*') FROM unnest('{regress_hv_writer,regress_hv_group}'::regrole[]) r;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA vault FROM regress_hv_service;
DELETE FROM vault.changes;
