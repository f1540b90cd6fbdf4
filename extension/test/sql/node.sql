-- What nodes use: fail, status, login_verifier, hba_rules, client_addr,
-- replayed, grant_service_role, tick.
SELECT vault.fail('P0V01', 'made by the node');
SELECT vault.fail('58000', 'with % everything', 'the %s detail', 'the hint');
SELECT vault.fail(sqlstate => '40001', message => 'named');
SELECT vault.fail('00000', 'not an error');
SELECT vault.fail('abc', 'no state');
SELECT vault.fail(NULL, NULL);

SET ROLE regress_hv_service;
SELECT vault.status();
SELECT vault.login_verifier('regress_hv_app');
SELECT vault.tick();
SELECT * FROM vault.hba_rules();
RESET ROLE;
SELECT vault.grant_service_role('regress_hv_service');
SELECT vault.grant_service_role(0::regrole);

SET password_encryption = 'scram-sha-256';
ALTER ROLE regress_hv_app PASSWORD 'app password';
ALTER ROLE regress_hv_bob PASSWORD 'bob password' VALID UNTIL '2001-01-01';
ALTER ROLE regress_hv_group PASSWORD 'group password';
SET client_min_messages = error;
SET password_encryption = 'md5';
ALTER ROLE regress_hv_member PASSWORD 'member password';
RESET password_encryption;
CREATE ROLE regress_hv_super SUPERUSER LOGIN PASSWORD 'super password';
CREATE ROLE regress_hv_repl REPLICATION LOGIN PASSWORD 'repl password';
CREATE ROLE regress_hv_bypass BYPASSRLS LOGIN PASSWORD 'bypass password';
RESET client_min_messages;
SET SESSION AUTHORIZATION regress_hv_service;
SELECT r, left(vault.login_verifier(r), 19) FROM unnest(ARRAY['regress_hv_app', 'regress_hv_bob', 'regress_hv_group',
	'regress_hv_member', 'regress_hv_writer', 'regress_hv_super', 'regress_hv_repl', 'regress_hv_bypass', 'regress_hv_nobody', '',
	repeat('x', 64), NULL]) r;
SET hyperion_vault.proxy_login = 'all';
-- The service role has no table, and no right to secrets.
SELECT count(*) FROM vault.admin_tokens;
SELECT vault.read_secret('app/db');
SELECT count(*) > 0 AS rules, count(error) AS errors, bool_and(loaded_at <= now()) AS loaded FROM vault.hba_rules();
SELECT key FROM jsonb_each(vault.status()) ORDER BY key;
SELECT s->>'vault_id' AS vault_id, s->>'extension_version' AS version, s->>'in_recovery' AS in_recovery,
	s->>'preloaded' AS preloaded, s->>'worker_database' AS worker_database FROM vault.status() s;
RESET SESSION AUTHORIZATION;
-- Who watches the server may ask too, and gets no more of the vault by it.
CREATE ROLE regress_hv_watch IN ROLE pg_monitor;
SET ROLE regress_hv_watch;
SELECT vault.status()->>'vault_id' AS vault_id, vault.status()->>'rotations_claimed' AS claimed;
SELECT count(*) FROM vault.secrets;
SELECT vault.tick();
SELECT * FROM vault.rotation_status();
RESET ROLE;
DROP ROLE regress_hv_watch;
DROP ROLE regress_hv_super, regress_hv_repl, regress_hv_bypass;

-- tick: enqueues what is due, once, deletes what is past its grace, tidies.
SELECT vault.create_secret('tick/due', 'automatic', t.seal('tick/due', '1', 'create'), rotation_interval => '1 hour');
SELECT vault.create_secret('tick/later', 'automatic', t.seal('tick/later', '1', 'create'), rotation_interval => '1 hour');
UPDATE vault.secrets SET next_rotation_at = now() - interval '1 second' WHERE name = 'tick/due';
SELECT t.put('tick/due', '2');
SELECT first FROM vault.next_version('tick/never', 1, 'put');
UPDATE vault.secrets SET deleted_at = now() - interval '2 hours' WHERE name = 'tick/never';
SET ROLE regress_hv_service;
SELECT vault.tick();
RESET ROLE;
SELECT vault.tick();
SELECT name, attempts, completed_at FROM vault.rotation_jobs j JOIN vault.secrets s ON s.id = j.secret_id WHERE name LIKE 'tick/%';
SELECT vault.enqueue_due_rotations();
SELECT version FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id WHERE name = 'tick/due';
SELECT vault.expire_grace_versions();
SELECT count(*) FROM vault.secrets WHERE name = 'tick/never';
SELECT last_tick_at > now() - interval '1 minute' AS ticked FROM vault.meta;

-- The settings: all defined, the server's own not the session's to change.
SELECT name, context, setting FROM pg_settings WHERE name LIKE 'hyperion_vault.%'
	AND name NOT IN ('hyperion_vault.scan_interval_secs', 'hyperion_vault.database') ORDER BY name;
SET hyperion_vault.no_such_setting = 1;
SET LOCAL hyperion_vault.joined = on;
SET ROLE regress_hv_app;
SET hyperion_vault.lock_hold = '1h';
SET hyperion_vault.client_addr = '10.0.0.1';
SET hyperion_vault.lock_wait = '1s';
RESET ROLE;
RESET hyperion_vault.lock_wait;

-- client_addr: one address that came with the connection, or NULL.
SELECT vault.client_addr();
\c -reuse-previous=on "options='-c hyperion_vault.client_addr=10.1.2.3'"
SET ROLE regress_hv_bob;
SELECT vault.client_addr(), vault.client_addr() << '10.0.0.0/8' AS inside, pg_typeof(vault.client_addr());
SET hyperion_vault.client_addr = '10.9.9.9';
RESET ALL;
SELECT vault.client_addr();
\c -reuse-previous=on "options='-c hyperion_vault.client_addr=2001:DB8::7'"
SELECT vault.client_addr();
\c -reuse-previous=on "options='-c hyperion_vault.client_addr=10.0.0.0/8'"
SELECT vault.client_addr();
\c -reuse-previous=on "options='-c hyperion_vault.client_addr=1.2.3'"
SELECT vault.client_addr();
\c -reuse-previous=on "options='-c hyperion_vault.client_addr=10.1.2.3.4'"
SELECT vault.client_addr();
\c -reuse-previous=on "options=''"

-- replayed: of the primary it is what is written, by anybody's asking. What a
-- standby says is in cluster.sh.
SET ROLE regress_hv_bob;
SELECT pg_current_wal_insert_lsn() AS before \gset
SELECT lsn BETWEEN :'before' AND pg_current_wal_insert_lsn() AS now, timeline FROM vault.replayed();
RESET ROLE;
