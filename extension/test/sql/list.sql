-- Metadata of what the role may list, and nothing else.
SELECT t.put('list/a', '1'), t.put('list/b', '1'), t.put('list/b', '2'), t.put('lisu', '1'), t.put('list/c', '1');
SELECT vault.update_secret('list/b', grace_period => '1 hour', description => 'the b');
SELECT t.put('list/b', '3');
SELECT vault.delete_secret('list/c');
SELECT name, kind, format, description, current_version, rotation_interval, grace_period, next_rotation_at,
	created_at <= updated_at AS times FROM vault.list_secrets('list/');
SELECT name FROM vault.list_secrets(prefix => 'lis');
SELECT count(*) > 3 AS all FROM vault.list_secrets();
SELECT count(*) FROM vault.list_secrets('list/b/%');
SELECT name FROM vault.list_secrets('list/%');
SELECT version, stage, created_at IS NOT NULL AS created, expires_at > now() AS in_grace FROM vault.list_versions('list/b');
SELECT vault.list_versions('list/absent');

SELECT vault.grant_access('regress_hv_app', 'list/b', 'list');
SET ROLE regress_hv_app;
SELECT name FROM vault.list_secrets('list/');
SELECT count(*) FROM vault.list_versions('list/b');
SELECT count(*) FROM vault.list_versions('list/a');
-- No condition of the query is run on hidden rows.
CREATE FUNCTION pg_temp.peek(text) RETURNS bool LANGUAGE plpgsql COST 0.0001 AS $$
BEGIN
	RAISE NOTICE 'saw %', $1;
	RETURN true;
END
$$;
SELECT name FROM vault.list_secrets('list/') WHERE pg_temp.peek(name);
SELECT (vault.list_versions('list/b')).version;
RESET ROLE;
