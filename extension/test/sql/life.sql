-- create, rotate, update, delete, and what stays of a deleted secret.
SELECT vault.create_secret('life/auto', 'automatic', t.seal('life/auto', 'a1', 'create'),
	rotation_interval => '30 days', grace_period => '1 hour', description => 'made by create');
SELECT kind, rotation_interval, grace_period, description, current_version,
	next_rotation_at BETWEEN created_at + '30 days' - interval '1 hour' AND created_at + '30 days' AS due FROM vault.secrets WHERE name = 'life/auto';
SELECT t.try_hint($$SELECT vault.next_version('life/auto', 1, 'create')$$);
SELECT vault.create_secret('life/hand', 'manual', t.seal('life/hand', 'h1', 'create'));
-- A record reserved for one function is not taken by another.
SELECT t.try($$SELECT vault.create_secret('life/x', 'manual', t.seal('life/x', 'x', 'put'))$$);
SELECT t.try($$SELECT vault.put_secret('life/x', t.seal('life/x', 'x', 'create'))$$);
SELECT t.try_hint(format('SELECT vault.create_secret(''life/x'', %s)', a)) FROM unnest(ARRAY[
	$$'manual', t.seal('life/x', 'x', 'create'), rotation_interval => '1 day'$$,
	$$'automatic', t.seal('life/x', 'x', 'create'), rotation_interval => '0'$$,
	$$'automatic', t.seal('life/x', 'x', 'create'), rotation_interval => '-1 day'$$,
	$$'automatic', t.seal('life/x', 'x', 'create'), rotation_interval => '101 years'$$,
	$$'automatic', t.seal('life/x', 'x', 'create'), rotation_interval => '1 month -29 days'$$,
	$$'manual', t.seal('life/x', 'x', 'create'), grace_period => '3500000 months -105000000 days'$$,
	$$'manual', t.seal('life/x', 'x', 'create'), grace_period => '1 day -1 second'$$,
	$$'manual', t.seal('life/x', 'x', 'create'), grace_period => '-1 second'$$,
	$$'Manual', t.seal('life/x', 'x', 'create')$$]) a;
SELECT count(*) FROM vault.secrets WHERE name = 'life/x';

-- rotate
SELECT t.try_hint($$SELECT vault.next_version('life/hand', 1, 'rotate')$$),
	t.try_hint($$SELECT vault.next_version('life/absent', 1, 'rotate')$$);
UPDATE vault.secrets SET next_rotation_at = now() - interval '1 day' WHERE name = 'life/auto';
SELECT vault.rotate_secret('life/auto', t.seal('life/auto', 'a2', 'rotate'));
SELECT next_rotation_at > now() + '29 days' AS due FROM vault.secrets WHERE name = 'life/auto';
SELECT version, stage, expires_at - v.created_at BETWEEN '1 hour' AND '2 hours' AS in_grace
	FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id WHERE s.name = 'life/auto' ORDER BY 1;
SELECT t.read('life/auto'), t.read('life/auto', 1);

-- update: NULL leaves as it is, zero and '' clear.
SELECT vault.update_secret('life/auto', rotation_interval => '1 day');
SELECT rotation_interval, grace_period, description, next_rotation_at BETWEEN updated_at + '23 hours' AND updated_at + '1 day' AS due FROM vault.secrets WHERE name = 'life/auto';
SELECT vault.update_secret('life/auto', grace_period => '0', description => '', next_rotation_at => '2030-01-01 00:00+00');
SELECT rotation_interval, grace_period, description, next_rotation_at = '2030-01-01 00:00+00' AS due FROM vault.secrets WHERE name = 'life/auto';
SELECT vault.update_secret('life/auto', rotation_interval => '0');
SELECT rotation_interval, next_rotation_at FROM vault.secrets WHERE name = 'life/auto';
SELECT t.try_hint(q) FROM unnest(ARRAY[
	$$SELECT vault.update_secret('life/absent', description => 'x')$$,
	$$SELECT vault.update_secret('life/hand', rotation_interval => '1 day')$$,
	$$SELECT vault.update_secret('life/hand', next_rotation_at => now())$$,
	$$SELECT vault.update_secret('life/auto', rotation_interval => '1 millisecond')$$,
	$$SELECT vault.update_secret('life/auto', next_rotation_at => 'infinity')$$,
	$$SELECT vault.update_secret('life/auto', next_rotation_at => '-infinity')$$,
	$$SELECT vault.update_secret('life/auto', next_rotation_at => '9999-12-31 23:59:59-01')$$,
	$$SELECT vault.update_secret('life/auto', next_rotation_at => '0001-12-31 00:00+00 BC')$$,
	$$SELECT vault.update_secret('life/auto', grace_period => '-1 day')$$,
	$$SELECT vault.update_secret('life/auto', grace_period => '-71000000 months 2130000001 days')$$,
	$$SELECT vault.update_secret('life/auto', rotation_interval => '1 month -30 days')$$,
	$$SELECT vault.update_secret('life/auto', description => repeat('x', 4097))$$]) q;
SET ROLE regress_hv_app;
SELECT t.try_hint(q) FROM unnest(ARRAY[
	$$SELECT vault.update_secret('life/auto', description => 'x')$$,
	$$SELECT vault.delete_secret('life/auto')$$,
	$$SELECT vault.delete_secret('life/absent')$$,
	$$SELECT vault.next_version('life/auto', 1, 'rotate')$$]) q;
RESET ROLE;

-- delete: versions and jobs go, the number stays.
INSERT INTO vault.rotation_jobs (secret_id) SELECT id FROM vault.secrets WHERE name = 'life/auto';
SELECT id AS old_id FROM vault.secrets WHERE name = 'life/auto' \gset
SELECT vault.grant_access('regress_hv_app', 'life/*', 'read', 'list', 'verify', 'delete');
SET ROLE regress_hv_app;
SELECT vault.delete_secret('life/auto'), vault.delete_secret('life/auto'), vault.delete_secret('life/absent');
SELECT vault.read_secret('life/auto');
SELECT vault.list_versions('life/auto');
SELECT vault.verify_begin('life/auto');
SELECT count(*) FROM vault.list_secrets('life/auto');
RESET ROLE;
SELECT count(*) FROM vault.secret_versions WHERE secret_id = :'old_id';
SELECT count(*) FROM vault.rotation_jobs WHERE secret_id = :'old_id';
SELECT kind, format, description, current_version, deleted_at IS NOT NULL AS deleted FROM vault.secrets WHERE name = 'life/auto';
SELECT vault.update_secret('life/auto', description => 'gone');

-- A new secret of that name has a new id and goes on counting.
SELECT t.put('life/auto', 'again');
SELECT id <> :'old_id' AS new_id, kind, current_version, created_at = updated_at AS reborn FROM vault.secrets WHERE name = 'life/auto';
SELECT t.read('life/auto');
-- Deleted and made again in one transaction; two reservations before it is born.
BEGIN;
SELECT vault.delete_secret('life/auto');
SELECT secret_id AS id1 FROM vault.next_version('life/auto', 1, 'put') \gset
SELECT secret_id AS id2, first FROM vault.next_version('life/auto', 1, 'put') \gset
SELECT :'id1' = :'id2' AS same_id, :first AS first;
SELECT vault.put_secret('life/auto', t.record('life/auto', :'id2', :first, 'x'));
SELECT vault.put_secret('life/auto', t.record('life/auto', :'id1', :first - 1, 'y'));
SELECT vault.delete_secret('life/auto');
SELECT secret_id <> :'id1' AS new_id, first FROM vault.next_version('life/auto', 1, 'create');
COMMIT;
-- Reserved while it lived, stored after it was deleted: refused.
SELECT t.put('life/auto', 'z');
BEGIN;
SELECT t.seal('life/auto', 'late') AS r \gset
SELECT vault.delete_secret('life/auto');
SELECT t.try(format('SELECT vault.put_secret(''life/auto'', %L)', :'r'));
ROLLBACK;
SELECT t.read('life/auto');
