-- The candidate never comes here: only the node's answer to a challenge.
SELECT t.put('ver/a', '1');
SELECT vault.update_secret('ver/a', grace_period => '1 hour');
SELECT t.put('ver/a', '2'), t.put('ver/a', '3');
SELECT vault.grant_access('regress_hv_app', 'ver/a', 'verify');
SET ROLE regress_hv_app;

SELECT length(challenge), (SELECT array_agg(t.show(r)) FROM unnest(records) r) FROM vault.verify_begin('ver/a');
SELECT vault.verify_begin('ver/absent');
SELECT vault.read_secret('ver/a');

SELECT encode(challenge, 'hex') AS c FROM vault.verify_begin('ver/a') \gset
SELECT vault.verify_secret('ver/a', 'hvv1.' || :'c' || '.2');
SELECT vault.verify_secret('ver/a', 'hvv1.' || :'c' || '.2');
SELECT encode(challenge, 'hex') AS c FROM vault.verify_begin('ver/a') \gset
SELECT vault.verify_secret(value => 'hvv1.' || :'c' || '.0', name => 'ver/a') IS NULL AS miss;
-- Used stays used, also after a rollback.
SELECT encode(challenge, 'hex') AS c FROM vault.verify_begin('ver/a') \gset
BEGIN;
SELECT vault.verify_secret('ver/a', 'hvv1.' || :'c' || '.3');
ROLLBACK;
SELECT t.try(format('SELECT vault.verify_secret(''ver/a'', ''hvv1.%s.3'')', :'c'));
-- Once in a statement, for that name, by that role.
SELECT encode(challenge, 'hex') AS c FROM vault.verify_begin('ver/a') \gset
SELECT vault.verify_secret('ver/a', 'hvv1.' || :'c' || '.3') FROM generate_series(1, 2);
SELECT encode(challenge, 'hex') AS c FROM vault.verify_begin('ver/a') \gset
SELECT t.try(format('SELECT vault.verify_secret(''ver/b'', ''hvv1.%s.3'')', :'c'));
SELECT encode(challenge, 'hex') AS c FROM vault.verify_begin('ver/a') \gset
RESET ROLE;
SELECT t.try(format('SELECT vault.verify_secret(''ver/a'', ''hvv1.%s.3'')', :'c'));
SET ROLE regress_hv_app;

-- Anything else is somebody's value.
SELECT vault.verify_secret('ver/a', 'hunter2');
SELECT t.try(format('SELECT vault.verify_secret(''ver/a'', %L)', v)) FROM (VALUES
	('hvv1.' || repeat('0', 32) || '.1'), ('hvv1.' || repeat('0', 32) || '.'), ('hvv1.' || repeat('0', 32) || '.01'),
	('hvv1.' || repeat('0', 32) || '.-1'), ('hvv1.' || repeat('0', 32) || '.2147483648'),
	('hvv1.' || repeat('0', 32) || '.99999999999'), ('hvv1.' || repeat('G', 32) || '.1'), ('')) w(v);
SELECT vault.verify_secret('ver/a', NULL) IS NULL AS null_value;

-- An invoker function may ask, a definer function may not, even its owner's own.
CREATE FUNCTION pg_temp.ask(text) RETURNS int LANGUAGE sql AS $$ SELECT vault.verify_secret('ver/a', $1) $$;
CREATE FUNCTION pg_temp.lend(text) RETURNS int LANGUAGE sql SECURITY DEFINER AS $$ SELECT vault.verify_secret('ver/a', $1) $$;
SELECT encode(challenge, 'hex') AS c FROM vault.verify_begin('ver/a') \gset
SELECT pg_temp.ask('hvv1.' || :'c' || '.3');
SELECT encode(challenge, 'hex') AS c FROM vault.verify_begin('ver/a') \gset
SELECT pg_temp.lend('hvv1.' || :'c' || '.3');
RESET ROLE;

-- Sixteen at most are open.
CREATE TEMP TABLE c AS SELECT i, encode((vault.verify_begin('ver/a')).challenge, 'hex') AS c FROM generate_series(1, 17) i;
SELECT count(*) FILTER (WHERE t.try(format('SELECT vault.verify_secret(''ver/a'', ''hvv1.%s.3'')', c)) = '3') FROM c;
DROP TABLE c;

-- More than a node compares at once it does not get.
BEGIN;
INSERT INTO vault.secret_versions (secret_id, version, value_format, kms_key_id, wrapped_dek, nonce, ciphertext, stage, expires_at)
	SELECT v.secret_id, 100 + i, v.value_format, v.kms_key_id, v.wrapped_dek, v.nonce, decode(repeat('cc', 524336), 'hex'), 'previous', now() + interval '1 hour'
	FROM vault.secrets s JOIN vault.secret_versions v ON v.secret_id = s.id AND v.stage = 'current', generate_series(1, 17) i WHERE s.name = 'ver/a';
SELECT t.try_hint($$SELECT vault.verify_begin('ver/a')$$);
DELETE FROM vault.secret_versions WHERE version > 116;
SELECT array_length(records, 1) FROM vault.verify_begin('ver/a');
ROLLBACK;
