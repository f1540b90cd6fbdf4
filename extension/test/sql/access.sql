-- Grants: who has them, and how soon a change counts.
SELECT t.put('acc/one', '1'), t.put('acc/two', '2'), t.put('other', '3');
SELECT vault.grant_access('regress_hv_group', 'acc/*', 'read', 'list');
SELECT vault.grant_access('regress_hv_bob', 'acc/one');
SELECT vault.grant_access('regress_hv_writer', '*', 'write');
SELECT role_name, pattern, actions FROM vault.grants WHERE role_name <> 'regress_hv_app' ORDER BY 1, 2;

-- Members have what the group has; NOINHERIT members after SET ROLE.
SELECT r, t.try(format($$SELECT vault.allowed('read', 'acc/two') FROM set_config('role', %L, true)$$, r))
	FROM unnest(ARRAY['regress_hv_member', 'regress_hv_noinherit', 'regress_hv_group', 'regress_hv_bob', 'regress_hv_writer']) r;
SELECT current_user = session_user AS back;
SET ROLE regress_hv_member;
SELECT t.read('acc/two');
SELECT vault.allowed('read', 'other'), vault.allowed('write', 'acc/one'), vault.allowed('read', 'no name');
SELECT vault.allowed('nonsense', 'acc/one');
RESET ROLE;

-- Only the owner grants.
SET ROLE regress_hv_bob;
SELECT vault.grant_access('regress_hv_bob', '*');
SELECT vault.revoke_access('regress_hv_member', '*');
SELECT vault.adopt_grants();
SELECT vault.grant_service_role('regress_hv_bob');
RESET ROLE;

-- Arguments.
SELECT vault.grant_access('regress_hv_bob', 'a**');
SELECT vault.grant_access('regress_hv_bob', 'acc/one', 'look');
SELECT vault.grant_access('regress_hv_bob', 'acc/one', VARIADIC '{}');
SELECT vault.grant_access(0::regrole, 'acc/one');
SELECT vault.grant_access('regress_hv_bob', NULL);
SELECT vault.grant_access(pattern => 'acc/x', role => 'regress_hv_bob', VARIADIC actions => '{read,verify}');

-- Grants add up; all of them are written *; a revoke takes off what it names.
SELECT vault.grant_access('regress_hv_bob', 'acc/x', '*');
SELECT actions FROM vault.grants WHERE pattern = 'acc/x';
SELECT vault.revoke_access('regress_hv_bob', 'acc/x', 'write', 'delete');
SELECT actions FROM vault.grants WHERE pattern = 'acc/x';
SELECT vault.revoke_access('regress_hv_bob', 'acc/x', 'write');
SELECT vault.revoke_access('regress_hv_bob', 'acc/x');
SELECT vault.revoke_access('regress_hv_bob', 'acc/x');
SELECT count(*) FROM vault.grants WHERE pattern = 'acc/x';

-- A change counts from the next call, in an open block too, and a rollback
-- takes it back.
SET SESSION AUTHORIZATION regress_hv_bob;
SELECT vault.allowed('read', 'acc/one');
RESET SESSION AUTHORIZATION;
BEGIN;
SAVEPOINT s;
SELECT vault.revoke_access('regress_hv_bob', 'acc/one');
SET LOCAL ROLE regress_hv_bob;
SELECT vault.allowed('read', 'acc/one');
ROLLBACK TO s;
SET LOCAL ROLE regress_hv_bob;
SELECT vault.allowed('read', 'acc/one');
ROLLBACK;
BEGIN;
TRUNCATE vault.grants;
SET LOCAL ROLE regress_hv_bob;
SELECT vault.allowed('read', 'acc/one');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SET LOCAL ROLE regress_hv_bob;
SELECT vault.allowed('read', 'acc/one');
RESET ROLE;
DELETE FROM vault.grants WHERE role_name = 'regress_hv_bob';
SET LOCAL ROLE regress_hv_bob;
SELECT vault.allowed('read', 'acc/one');
ROLLBACK;
-- session_replication_role does not keep a revoked right alive.
BEGIN;
SET LOCAL session_replication_role = replica;
DELETE FROM vault.grants WHERE role_name = 'regress_hv_bob';
SET LOCAL ROLE regress_hv_bob;
SELECT vault.allowed('read', 'acc/one');
ROLLBACK;

-- A grant is bound to OID and name.
SELECT role, granted_to, pattern, actions FROM vault.effective_access
	WHERE role::text LIKE 'regress_hv_%' AND pattern LIKE 'acc/%' ORDER BY 1, 2, 3;
ALTER ROLE regress_hv_bob RENAME TO regress_hv_rob;
SET ROLE regress_hv_rob;
SELECT vault.allowed('read', 'acc/one');
RESET ROLE;
ALTER ROLE regress_hv_rob RENAME TO regress_hv_bob;
UPDATE vault.grants SET role_oid = 1 WHERE role_name = 'regress_hv_bob';
SET ROLE regress_hv_bob;
SELECT vault.allowed('read', 'acc/one');
RESET ROLE;
SELECT count(*) FROM vault.effective_access WHERE role = 'regress_hv_bob' AND pattern = 'acc/one';
SELECT vault.adopt_grants();
SET ROLE regress_hv_bob;
SELECT vault.allowed('read', 'acc/one');
RESET ROLE;
-- What a dropped role had does not come to a new one of its name.
UPDATE vault.grants SET role_oid = 1, actions = '{*}' WHERE role_name = 'regress_hv_bob';
SELECT vault.grant_access('regress_hv_bob', 'acc/one');
SELECT actions FROM vault.grants WHERE role_name = 'regress_hv_bob';

-- But adopt_grants goes by the name alone, of a role of before too: such rows are deleted
-- first, by the statements of OPERATIONS.md.
CREATE ROLE regress_hv_again;
SELECT vault.grant_access('regress_hv_again', 'acc/*');
DROP ROLE regress_hv_again;
CREATE ROLE regress_hv_again;
SELECT t.try($$SELECT vault.allowed('read', 'acc/one') FROM set_config('role', 'regress_hv_again', true)$$);
BEGIN;
SELECT vault.adopt_grants();
SELECT t.try($$SELECT vault.allowed('read', 'acc/one') FROM set_config('role', 'regress_hv_again', true)$$);
ROLLBACK;
DELETE FROM vault.grants g WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = g.role_oid AND r.rolname = g.role_name)
	RETURNING role_name, pattern;
SELECT vault.adopt_grants();
DROP ROLE regress_hv_again;

-- Many grants: exact names are searched, not walked.
INSERT INTO vault.grants (role_oid, role_name, pattern, actions)
	SELECT 'regress_hv_bob'::regrole, 'regress_hv_bob', 'many/' || i, '{read}' FROM generate_series(1, 2000) i;
SET ROLE regress_hv_bob;
SELECT count(*) FILTER (WHERE vault.allowed('read', 'many/' || i)) FROM generate_series(0, 2001) i;
RESET ROLE;
DELETE FROM vault.grants WHERE pattern LIKE 'many/%';
SELECT vault.revoke_access('regress_hv_writer', '*');
