-- Writing: only a record reserved in this transaction is ever stored.
SELECT vault.grant_access('regress_hv_writer', 'put/*', 'write');

-- Plaintext is refused first of all, whoever asks and whatever else is wrong.
SELECT vault.put_secret('put/a', 'hunter2');
SELECT vault.put_secret('hunter2', 'put/a', 'hunter2');
SELECT vault.put_secret(NULL, 'hunter2');
SELECT vault.put_secret('put/a', 'hv1.hunter2');
SELECT vault.put_secret('put/a', 'hv1.');
SELECT vault.put_secret('put/a', '');
SELECT vault.put_secret('put/a', NULL);
SELECT vault.create_secret('put/a', 'manual', 'hunter2');
SELECT vault.create_secret('put/a', 'manual');
SELECT vault.create_secret('hunter2', 'put/a');
SELECT vault.create_secret('put/a', NULL, 'hunter2');
SELECT vault.rotate_secret('put/a', 'hunter2');
SELECT vault.rotate_secret('put/a');
BEGIN READ ONLY;
SELECT vault.put_secret('put/a', 'hunter2');
ROLLBACK;
BEGIN READ ONLY;
SELECT vault.next_version('put/a', 1, 'put');
ROLLBACK;
SET ROLE regress_hv_bob;
SELECT vault.put_secret('put/a', 'hunter2');
SELECT vault.next_version('put/a', 1, 'put');
RESET ROLE;

-- One spelling only: what is not exactly a record is no record.
SELECT t.try(format('SELECT vault.put_secret(''put/a'', %L)', v)) FROM (
	SELECT t.record('put/a', '22222222-2222-4333-8444-555555555555', 1, 'x') AS r) s,
	LATERAL (VALUES (r), (r || 'A'), (r || '='), (left(r, -1)), (left(r, -4)), ('HV1' || substr(r, 4)), (r || E'\n'),
		(' ' || r), (overlay(r PLACING '+' FROM 20)), (overlay(r PLACING 'BBBB' FROM 5))) w(v);
SELECT t.try(format('SELECT vault.put_secret(''put/a'', %L)', v)) FROM (VALUES
	(t.record('put/a', '22222222-2222-4333-8444-555555555555', 0, 'x')),
	(t.record('put/a', '22222222-2222-4333-8444-555555555555', -1, 'x')),
	(t.record('bad name', '22222222-2222-4333-8444-555555555555', 1, 'x')),
	(t.record('put/a', '22222222-2222-4333-8444-555555555555', 1, 'x', format => 4)),
	(t.record('put/a', '22222222-2222-4333-8444-555555555555', 1, repeat('x', 49), kms => '')),
	(t.record('put/a', '22222222-2222-4333-8444-555555555555', 1, repeat('x', 49), kms => E'k\n'))) w(v);
SELECT t.try(format('SELECT vault.put_secret(''put/a'', %L)', v)) FROM (VALUES
	(t.record('put/a', '22222222-2222-4333-8444-555555555555', 1, 'x', format => 3)),
	(t.record('put/a', '22222222-2222-4333-8444-555555555555', 1, 'x', vault => gen_random_uuid()))) w(v);
SELECT count(*) FROM vault.secrets WHERE name LIKE 'put/%';

-- A put makes a manual secret, the next one a version.
SET ROLE regress_hv_writer;
SELECT vault.put_secret('put/a', t.seal('put/a', 'one'), 'first of all');
SELECT vault.put_secret(value => t.seal('put/a', 'two'), name => 'put/a');
SELECT vault.put_secret('put/a', t.seal('put/a', 'three'), description => 'third of all');
RESET ROLE;
SELECT t.read('put/a');
SELECT kind, format, description, current_version, deleted_at FROM vault.secrets WHERE name = 'put/a';
SELECT version, stage, expires_at <= now() AS expired FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id
	WHERE s.name = 'put/a' ORDER BY 1;

-- Each record once.
BEGIN;
SELECT t.seal('put/a', 'four') AS r \gset
SELECT vault.put_secret('put/a', :'r') FROM generate_series(1, 2);
ROLLBACK;
BEGIN;
SELECT t.seal('put/a', 'four') AS r \gset
SELECT vault.put_secret('put/a', :'r');
SELECT t.try(format('SELECT vault.put_secret(''put/a'', %L)', :'r'));
COMMIT;
-- Of this transaction, this name, this id.
SELECT t.try(format('SELECT vault.put_secret(''put/a'', %L)', :'r'));
BEGIN;
SELECT t.seal('put/a', 'five') AS r \gset
SELECT t.try(format('SELECT vault.put_secret(''put/b'', %L)', :'r'));
SELECT t.try(format('SELECT vault.put_secret(''put/a'', %L)',
	t.record('put/a', '22222222-2222-4333-8444-555555555555', 5, 'x')));
SELECT t.try(format('SELECT vault.rotate_secret(''put/a'', %L)', :'r'));
COMMIT;
SELECT t.try(format('SELECT vault.put_secret(''put/a'', %L)', :'r'));

-- Several reserved, stored in another order: the highest is current.
BEGIN;
SELECT secret_id AS id, first FROM vault.next_version('put/a', 3, 'put') \gset
SELECT vault.put_secret('put/a', t.record('put/a', :'id', :first + 2, 'seven'));
SELECT vault.put_secret('put/a', t.record('put/a', :'id', :first, 'five'));
SELECT first FROM vault.next_version('put/a', 1, 'put');
COMMIT;
SELECT t.read('put/a');
SELECT version, stage FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id
	WHERE s.name = 'put/a' AND version >= 4 ORDER BY 1;
SELECT t.put('put/a', 'eight');
WITH a AS (SELECT t.put('put/a', 'nine') AS v), b AS (SELECT t.put('put/a', 'ten') AS v)
	SELECT b.v, a.v FROM b, a;

-- Savepoints: what a rollback takes with it, and what it gives back.
BEGIN;
SAVEPOINT s;
SELECT t.seal('put/a', 'in savepoint') AS r \gset
ROLLBACK TO s;
SELECT t.try(format('SELECT vault.put_secret(''put/a'', %L)', :'r'));
SELECT first FROM vault.next_version('put/a', 1, 'put');
COMMIT;
BEGIN;
SELECT t.seal('put/a', 'before') AS r \gset
SAVEPOINT s;
SELECT vault.put_secret('put/a', :'r');
ROLLBACK TO s;
SELECT vault.put_secret('put/a', :'r');
SAVEPOINT s2;
RELEASE s2;
SELECT t.try(format('SELECT vault.put_secret(''put/a'', %L)', :'r'));
COMMIT;
BEGIN;
SELECT t.seal('put/a', 'failing block') AS r \gset
DO $$ BEGIN PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN NULL; END $$;
SELECT t.try(format('SELECT vault.put_secret(''put/a'', %L) / 0', :'r'));
SELECT vault.put_secret('put/a', :'r');
COMMIT;
SELECT t.read('put/a');

-- A reservation that is never used leaves a name that reads as missing.
SELECT first FROM vault.next_version('put/never', 1, 'put');
SELECT t.try($$SELECT t.read('put/never')$$);
SELECT current_version, deleted_at IS NOT NULL AS deleted FROM vault.secrets WHERE name = 'put/never';
SELECT t.put('put/never', 'after all');

-- Rights: update on a living name, create on a missing one, checked again at
-- the put.
SELECT vault.grant_access('regress_hv_app', 'only/create/*', 'create'), vault.grant_access('regress_hv_app', 'only/update/*', 'update');
SELECT t.put('only/update/here', 'x'), t.put('only/create/here', 'x');
SET ROLE regress_hv_app;
SELECT t.try(q) FROM unnest(ARRAY[
	$$SELECT t.put('only/create/new', 'x')$$, $$SELECT t.put('only/create/here', 'x')$$,
	$$SELECT t.put('only/update/new', 'x')$$, $$SELECT t.put('only/update/here', 'x')$$]) q;
RESET ROLE;
SELECT count(*) FROM vault.secrets WHERE name = 'only/update/new';
BEGIN;
SELECT t.seal('put/a', 'reserved by the owner') AS r \gset
SET LOCAL ROLE regress_hv_bob;
SELECT t.try(format('SELECT vault.put_secret(''put/a'', %L)', :'r'));
ROLLBACK;

-- A record of one's own making tells of no name whether it is a secret's: without
-- the right, nor with one that is not enough for the secret.
SELECT t.put('put/gone', 'x'), vault.delete_secret('put/gone');
SET ROLE regress_hv_bob;
SELECT DISTINCT t.try(format(q, n, t.record(n, '22222222-2222-4333-8444-555555555555', 1, 'x')))
	FROM unnest(ARRAY['app/db', 'put/gone', 'app/none']) n, unnest(ARRAY['SELECT vault.put_secret(%L, %L)',
		'SELECT vault.create_secret(%L, ''manual'', %L)', 'SELECT vault.rotate_secret(%L, %L)']) q ORDER BY 1;
SET ROLE regress_hv_app;
SELECT DISTINCT t.try(format(q, n, t.record(n, '22222222-2222-4333-8444-555555555555', 1, 'x')))
	FROM unnest(ARRAY['only/create/here', 'only/create/none']) n, unnest(ARRAY['SELECT vault.put_secret(%L, %L)',
		'SELECT vault.create_secret(%L, ''manual'', %L)']) q;
RESET ROLE;

-- Arguments of next_version.
SELECT vault.next_version('put/a', 0, 'put');
SELECT vault.next_version('put/a', 65536, 'put');
SELECT vault.next_version('put/a', 1, 'delete');
SELECT vault.next_version('put/a', NULL, NULL);
SELECT vault.put_secret('put/a', t.seal('put/a', 'x'), repeat('d', 4097));
UPDATE vault.secrets SET current_version = 2147483646 WHERE name = 'put/never';
SELECT t.try($$SELECT t.put('put/never', 'last')$$), t.try($$SELECT t.put('put/never', 'none left')$$);

-- A user name and password is REST's.
UPDATE vault.secrets SET format = 'userpass' WHERE name = 'put/never';
SELECT t.try_hint($$SELECT vault.next_version('put/never', 1, 'put')$$);

-- Without an id the vault takes nothing.
BEGIN;
DELETE FROM vault.meta;
SELECT t.try_hint($$SELECT vault.next_version('put/a', 1, 'put')$$), t.try_hint($$SELECT vault.read_secret('put/a')$$);
ROLLBACK;
SELECT t.try_hint($$SELECT vault.read_secret('put/a')$$);
